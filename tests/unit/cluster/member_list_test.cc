#include "cluster/member_list.h"

#include <gmock/gmock.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include "base/file.h"
#include "cluster/member_store.h"
#include "cluster_fixture.h"

namespace shoal::cluster {
namespace {

using testing::HasSubstr;

std::string id(char digit) {
  return std::string(64, digit);
}
Member member(char digit, std::string name) {
  return {id(digit), std::move(name), {"10.0.0.1:7466"}, 5, false, {}};
}

MemberList list_of(std::string_view digits, const std::string& writer) {
  MemberList list;
  for (const char digit : digits) list.add(member(digit, std::string(1, digit)), writer);
  return list;
}

TEST(MemberList, MergesToTheSameWhateverTheOrder) {
  MemberList a = list_of("12", id('1'));
  MemberList b = list_of("34", id('3'));
  MemberList a_first = a;
  a_first.merge(b);
  MemberList b_first = b;
  b_first.merge(a);
  EXPECT_EQ(a_first.digest(), b_first.digest());
  EXPECT_EQ(a_first.members().size(), 4u);
  EXPECT_FALSE(a_first.merge(b)) << "merging again changes nothing";
}

TEST(MemberList, ARemovedNodeDoesNotComeBackByGossip) {
  MemberList a = list_of("123", id('1'));
  const MemberList old = a;
  a.remove(id('3'), id('1'));
  EXPECT_FALSE(a.is_member(id('3')));
  EXPECT_FALSE(a.merge(old));
  EXPECT_FALSE(a.is_member(id('3')));
  MemberList other = old;
  EXPECT_TRUE(other.merge(a));
  EXPECT_FALSE(other.is_member(id('3')));
  EXPECT_FALSE(other.describe(id('3'), "3", {"x:1"})) << "nor by saying where it is";
  // An invitation later than the removal counts.
  other.add(member('3', "3"), id('2'));
  a.merge(other);
  EXPECT_TRUE(a.is_member(id('3')));
}

TEST(MemberList, ConcurrentWritesEndAlikeEverywhere) {
  MemberList a = list_of("123", id('1'));
  MemberList b = a;
  a.remove(id('3'), id('1'));
  b.add(member('3', "again"), id('2'));  // the same counter; the higher writer wins
  MemberList a_then_b = a;
  a_then_b.merge(b);
  MemberList b_then_a = b;
  b_then_a.merge(a);
  EXPECT_EQ(a_then_b, b_then_a);
  EXPECT_TRUE(a_then_b.is_member(id('3')));
}

TEST(MemberList, TheLinkModeFollowsTheLastWriter) {
  MemberList a = list_of("12", id('1'));
  MemberList b = a;
  a.set_link_mode(LinkMode::kPlain, id('1'));
  b.merge(a);
  EXPECT_EQ(b.link_mode(), LinkMode::kPlain);
  b.set_link_mode(LinkMode::kTls, id('2'));
  a.merge(b);
  EXPECT_EQ(a.link_mode(), LinkMode::kTls);
}

TEST(MemberList, SurvivesJson) {
  MemberList list = list_of("12", id('1'));
  list.remove(id('2'), id('1'));
  list.set_link_mode(LinkMode::kPlain, id('1'));
  const auto again = member_list_from_json(*parse_json(dump_json(to_json(list))));
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(*again, list);
}

TEST(MemberList, HostileJsonIsRefusedInSentences) {
  const Json good = to_json(list_of("12", id('1')));
  const auto refused = [&](const std::function<void(Json&)>& spoil, const char* says) {
    Json json = good;
    spoil(json);
    const auto list = member_list_from_json(json);
    ASSERT_FALSE(list) << says;
    EXPECT_THAT(list.error().message, HasSubstr(says));
  };
  refused([](Json& j) { j = 3; }, "'members' is missing");
  refused([](Json& j) { j["members"] = "x"; }, "must be a list");
  refused([](Json& j) { j["members"][0]["id"] = "../../etc"; }, "not a node id");
  refused([](Json& j) { j["members"][0]["stamp"]["counter"] = UINT64_MAX; }, "beyond what can be");
  refused([](Json& j) { j["members"][0]["stamp"]["counter"] = -1; }, "wrong type");
  refused([](Json& j) { j["members"][0]["stamp"]["writer"] = "me"; }, "not a node id");
  refused([](Json& j) { j["members"][0]["addresses"] = {1, 2}; }, "not an address");
  refused([](Json& j) { j["members"][0]["addresses"] = Json(100, "x:1"); }, "at most 16 addresses");
  refused([](Json& j) { j["link_mode"] = "open"; }, "open");
  Json control = good;
  control["members"][0]["name"] = "x\x1b[2Jy" + std::string(500, 'z');
  const auto list = member_list_from_json(control);
  ASSERT_TRUE(list);
  EXPECT_THAT(list->members()[0].name, testing::StartsWith("x?[2Jyzzz"))
      << "no escapes reach a terminal";
  EXPECT_EQ(list->members()[0].name.size(), 64u);
}

class MemberStoreTest : public testing::Test {
 protected:
  std::string file() const { return folder_.path() + "/cluster.db"; }
  TemporaryFolder folder_;
};

TEST_F(MemberStoreTest, KeepsTheListOverRestarts) {
  MemberList list = list_of("123", id('1'));
  list.remove(id('3'), id('1'));
  list.set_link_mode(LinkMode::kPlain, id('1'));
  list.advance(99);
  {
    auto store = MemberStore::open(folder_.path());
    ASSERT_TRUE(store) << store.error().message;
    EXPECT_EQ(store->load()->members().size(), 0u);
    ASSERT_TRUE(store->save(list));
  }
  auto store = MemberStore::open(folder_.path());
  ASSERT_TRUE(store);
  const auto again = store->load();
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(*again, list);
  struct stat facts;
  ASSERT_EQ(::stat(file().c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600u);
}

TEST_F(MemberStoreTest, ADamagedFileIsNamedAndKept) {
  const std::string garbage = "this is not a database" + std::string(5000, 'x');
  ASSERT_TRUE(write_file_atomically(file(), garbage));
  const auto store = MemberStore::open(folder_.path());
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(store.error().message, HasSubstr("cluster.db is damaged"));
  EXPECT_EQ(*read_file(file()), garbage);
}

TEST_F(MemberStoreTest, AFileOfANewerShoalIsNotTouched) {
  ASSERT_TRUE(MemberStore::open(folder_.path()));
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(file().c_str(), &database), SQLITE_OK);
  sqlite3_exec(database, "PRAGMA user_version=7", nullptr, nullptr, nullptr);
  sqlite3_close(database);
  const auto store = MemberStore::open(folder_.path());
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(store.error().message, HasSubstr("newer Shoal (format 7, this one knows 1)"));
}

TEST_F(MemberStoreTest, RowsThatCannotBeAreNamed) {
  auto store = MemberStore::open(folder_.path());
  ASSERT_TRUE(store);
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(file().c_str(), &database), SQLITE_OK);
  sqlite3_exec(database, "INSERT INTO member VALUES('short','x','[]',0,0,1,'')", nullptr, nullptr,
               nullptr);
  sqlite3_close(database);
  const auto list = store->load();
  ASSERT_FALSE(list);
  EXPECT_THAT(list.error().message, HasSubstr("a member entry that cannot be ('short')"));
}

}  // namespace
}  // namespace shoal::cluster
