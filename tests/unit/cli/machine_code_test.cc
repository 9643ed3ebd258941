#include "cli/machine_code.h"

#include <gmock/gmock.h>

namespace shoal::cli {
namespace {

using ::testing::HasSubstr;

TEST(MachineCode, SurvivesItsText) {
  const MachineCode one{"10.0.0.2:7470", new_token()};
  const MachineCode two{"[fd00::2]:7471", new_token()};
  const auto codes = decode_machine_codes(encode(one) + "," + encode(two));
  ASSERT_TRUE(codes) << codes.error().message;
  ASSERT_EQ(codes->size(), 2u);
  EXPECT_EQ((*codes)[0].address, one.address);
  EXPECT_EQ((*codes)[1].address, two.address);
  EXPECT_EQ((*codes)[0].token, one.token);
  EXPECT_EQ((*codes)[1].token, two.token);
  EXPECT_NE(one.token, two.token);
  EXPECT_EQ(control_key(one.token).size(), 32u);
  EXPECT_NE(control_key(one.token), control_key(two.token));
}

TEST(MachineCode, WhatIsNoneIsRefused) {
  const std::string token(32, 'a');
  for (const std::string& text :
       {std::string(), std::string(","), std::string("10.0.0.2:7470"), "/" + token,
        "10.0.0.2:7470/" + token.substr(2), "10.0.0.2:7470/" + token + "00",
        "10.0.0.2:7470/" + std::string(32, 'g'), "10.0.0.2:7470/" + token + ",",
        std::string(300, '1') + "/" + token}) {
    const auto codes = decode_machine_codes(text);
    ASSERT_FALSE(codes) << text;
    EXPECT_EQ(codes.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(codes.error().message, HasSubstr("is no machine's code"));
  }
  const std::string twice = "10.0.0.2:7470/" + token + ",10.0.0.2:7470/" + std::string(32, 'b');
  EXPECT_THAT(decode_machine_codes(twice).error().message, HasSubstr("10.0.0.2:7470 twice"));
}

TEST(Endpoint, IsANumberAndAPort) {
  for (const char* text : {"10.0.0.2:7470", "[fd00::2]:1", "127.0.0.1:0", "[::1]:65535"})
    EXPECT_EQ(format_endpoint(*parse_endpoint(text)), text);
  for (const char* text : {"", ":", "birch:7470", "10.0.0.2", "10.0.0.2:", "10.0.0.2:65536",
                           "10.0.0.2:-1", "10.0.0.2: 1", "fd00::2:1", "[10.0.0.2]:1", "[]:1"}) {
    const auto endpoint = parse_endpoint(text);
    ASSERT_FALSE(endpoint) << text;
    EXPECT_EQ(endpoint.error().code, ErrorCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace shoal::cli
