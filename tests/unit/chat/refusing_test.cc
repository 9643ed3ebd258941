// Templates come from strangers' files: wrong, endless and greedy ones end in a sentence.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "chat/chat_template.h"

namespace shoal {
namespace {

using testing::HasSubstr;

const OrderedJson kHello = OrderedJson::parse(R"([{"role": "user", "content": "Hello"}])");

Result<std::string> render(std::string_view source, const OrderedJson& messages = kHello,
                           const OrderedJson& tools = nullptr, const OrderedJson& extra = nullptr) {
  auto parsed = ChatTemplate::parse(source, "<s>", "</s>");
  if (!parsed) return std::unexpected(parsed.error());
  return parsed->render(messages, tools, true, extra);
}

void expect_error(const Result<std::string>& result, ErrorCode code, std::string_view words) {
  ASSERT_FALSE(result) << "gave " << result->substr(0, 200);
  EXPECT_EQ(error_name(result.error().code), error_name(code)) << result.error().message;
  EXPECT_THAT(result.error().message, HasSubstr(words));
}

TEST(Refusing, SyntaxErrorsNameTheLine) {
  expect_error(render("one\ntwo {% if %}"), ErrorCode::kCorrupt, "line 2");
  expect_error(render("{{ 'unfinished"), ErrorCode::kCorrupt, "line 1");
  expect_error(render("{% for m in messages %}never closed"), ErrorCode::kCorrupt,
               "does not parse");
  expect_error(render("{% nonsense %}"), ErrorCode::kCorrupt, "nonsense");
  expect_error(render("a\xFF"), ErrorCode::kCorrupt, "UTF-8");
}

TEST(Refusing, RaisedWordsReachTheUser) {
  expect_error(render("{{ raise_exception('Roles must alternate: ' + messages[0].role) }}"),
               ErrorCode::kInvalidArgument, "Roles must alternate: user");
}

TEST(Refusing, WhatHasNoAnswerNamesTheLine) {
  expect_error(render("\n{{ messages[0].nothing.more }}"), ErrorCode::kInvalidArgument, "line 2");
  expect_error(render("{{ unknown_function() }}"), ErrorCode::kInvalidArgument, "unknown_function");
  expect_error(render("{{ messages | unknown_filter }}"), ErrorCode::kInvalidArgument,
               "unknown_filter");
  expect_error(render("{{ 'a' + 1 }}"), ErrorCode::kInvalidArgument, "+");
  expect_error(render("{{ 1 // 0 }}"), ErrorCode::kInvalidArgument, "zero");
  expect_error(render("{% include 'other' %}"), ErrorCode::kInvalidArgument, "other");
}

TEST(Refusing, MessagesOfWrongShapes) {
  const std::string_view source =
      "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}";
  expect_error(render(source, OrderedJson::parse(R"({"role": "user"})")),
               ErrorCode::kInvalidArgument, "list");
  expect_error(render(source, OrderedJson::parse(R"(["hello"])")), ErrorCode::kInvalidArgument,
               "message 0");
  expect_error(render(source, OrderedJson::parse(R"([{"role": "user"}, 3])")),
               ErrorCode::kInvalidArgument, "message 1");
  expect_error(render(source, kHello, OrderedJson::parse(R"({"a": 1})")),
               ErrorCode::kInvalidArgument, "tools");
  expect_error(render(source, kHello, nullptr, OrderedJson::parse("[1]")),
               ErrorCode::kInvalidArgument, "object");
  expect_error(render(source, kHello, nullptr, OrderedJson::parse(R"({"messages": 1})")),
               ErrorCode::kInvalidArgument, "'messages'");
  // Odd contents are the template's to judge; this one prints them.
  const auto odd =
      OrderedJson::parse(R"([{"role": 7, "content": null}, {"content": [1, {"a": true}]}, {}])");
  EXPECT_EQ(render(source, odd).value(), "7: None: [1, {'a': True}]: ");
}

// Each of these would run for ever, or until memory ends, in an engine without bounds.
TEST(Refusing, EndlessTemplatesStop) {
  const std::string_view endless[] = {
      "{% for a in range(99999) %}{% for b in range(99999) %}{% set x = a %}{% endfor %}{% endfor "
      "%}",
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% for x in [messages] recursive %}{{ loop([x]) }}{% endfor %}",
      "{% for a in range(99999) %}{{ range(99999) | list | length }}{% endfor %}",
      "{% set big = range(99999) | list %}{% for a in range(99999) %}{{ 5.5 in big }}{% endfor %}",
      "{% set big = range(99999) | list %}{% for a in range(99999) %}{{ big == big }}{% endfor %}",
      "{% set big = 'x' * 9999999 %}{% for a in range(99999) %}{{ big.find('y') }}{% endfor %}",
      "{% set big = 'x' * 9999999 %}{% for a in range(99999) %}{{ big | length }}{{ big is lower "
      "}}{% endfor %}",
      "{% set big = range(99999) | list %}{% for a in range(99999) %}{{ big | unique | first }}{% "
      "endfor %}",
  };
  for (const std::string_view source : endless) {
    SCOPED_TRACE(source);
    const auto result = render(source);
    ASSERT_FALSE(result);
    EXPECT_TRUE(result.error().code == ErrorCode::kUnsupported ||
                result.error().code == ErrorCode::kInvalidArgument)
        << result.error().message;
  }
}

TEST(Refusing, GreedyTemplatesStop) {
  const std::string_view greedy[] = {
      "{% for a in range(9999) %}{{ 'x' * 99999 }}{% endfor %}",
      "{{ 'x' * 10000000000 }}",
      "{% set n = namespace(s='0123456789') %}{% for a in range(60) %}{% set n.s = n.s ~ n.s %}{% "
      "endfor %}{{ n.s }}",
      "{% set n = namespace(s='0123456789') %}{% for a in range(60) %}{% set n.s = n.s + n.s %}{% "
      "endfor %}{{ n.s }}",
      "{% set n = namespace(s='0123456789') %}{% for a in range(60) %}{% set n.s = [n.s, n.s] | "
      "join %}{% endfor %}",
      "{% set n = namespace(s='ab') %}{% for a in range(60) %}{% set n.s = n.s | replace('a', "
      "'aaa') %}{% endfor %}",
      "{% set n = namespace(s='ab') %}{% for a in range(60) %}{% set n.s = n.s.replace('a', 'aaa') "
      "%}{% endfor %}",
      "{% set n = namespace(s='ab') %}{% for a in range(60) %}{% set t %}{{ n.s }}{{ n.s }}{% "
      "endset %}{% set n.s = t %}{% endfor %}",
      "{% set n = namespace(s='ab') %}{% macro m(s) %}{{ s }}{{ s }}{% endmacro %}{% for a in "
      "range(60) %}{% set n.s = m(n.s) %}{% endfor %}",
      "{% set n = namespace(s=[1]) %}{% for a in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
      "{% set n = namespace(s=[1]) %}{% for a in range(60) %}{% set n.s = [n.s, n.s] %}{% endfor "
      "%}{{ n.s }}",
      "{% set n = namespace(s={'a': 1}) %}{% for a in range(60) %}{% set n.s = {'a': n.s, 'b': "
      "n.s} %}{% endfor %}{{ n.s | tojson }}",
      "{% set n = namespace(s=[1]) %}{% for a in range(99999) %}{% set n.s = [n.s] %}{% endfor %}",
      "{{ ([1] * 100000000000) | list | length }}",
      "{{ 'a\n' * 100000 | indent(100000000) }}",
      "{{ 'abc'.center(100000000000) }}{{ 'abc'.zfill(100000000000) }}",
      "{{ '%099999999999d' | format(1) }}",
      "{{ '{:>99999999999}'.format(1) }}",
      "{{ ('%9999d' * 100000) | format(1) }}",
      "{{ ('{0}' * 100000).format('x' * 1000000) }}",
      "{{ [1, 2, 3] | batch(100000000000, 0) | list }}",
      "{{ [1, 2, 3] | slice(100000000000, 0) | list }}",
      "{{ messages | tojson(indent=100000000000) }}",
      "{{ ('a' * 50000000) | list | length }}",
      "{{ ('a' * 50000000).split('a') | length }}",
      "{{ 'abc'.count('') }}{{ 9 ** 9 ** 9 }}",
  };
  for (const std::string_view source : greedy) {
    SCOPED_TRACE(source);
    const auto result = render(source);
    ASSERT_FALSE(result) << result->size();
    EXPECT_TRUE(result.error().code == ErrorCode::kUnsupported ||
                result.error().code == ErrorCode::kInvalidArgument)
        << result.error().message;
  }
}

TEST(Refusing, ValuesThatContainThemselves) {
  for (const std::string_view source : {
           "{% set n = namespace() %}{% set n.self = n %}{{ n }}",
           "{% set n = namespace() %}{% set n.self = [n] %}{{ n }}",
           "{% set n = namespace() %}{% set n.self = dict(a=n) %}{{ n == n.self }}",
           "{% set n = namespace() %}{% set m = namespace(n=n) %}{% set n.m = m %}{{ m | tojson }}",
       }) {
    SCOPED_TRACE(source);
    expect_error(render(source), ErrorCode::kInvalidArgument, "namespace");
  }
}

std::string repeated(std::string_view text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

// Trees that would overflow the stack of whoever walks them.
TEST(Refusing, DeepSources) {
  EXPECT_FALSE(render("{{ " + repeated("(", 50000) + "1" + repeated(")", 50000) + " }}"));
  EXPECT_FALSE(render("{{ 1" + repeated(" ~ 1", 100000) + " }}"));
  EXPECT_FALSE(render("{{ messages" + repeated(".a", 100000) + " }}"));
  EXPECT_FALSE(render("{{ 1" + repeated("|string", 100000) + " }}"));
  EXPECT_FALSE(render("{{ " + repeated("not ", 50000) + "1 }}"));
  EXPECT_FALSE(render(repeated("{% if 1 %}", 50000) + repeated("{% endif %}", 50000)));
  EXPECT_FALSE(render("{% if 0 %}" + repeated("{% elif 0 %}", 50000) + "{% endif %}"));
  EXPECT_FALSE(render(repeated("x", 2 << 20)));
  // Long but flat is fine.
  EXPECT_EQ(render(repeated("{{ 1 }}", 20000)).value(), repeated("1", 20000));
  EXPECT_EQ(render("{{ 0" + repeated(" + 1", 2000) + " }}").value(), "2000");
}

}  // namespace
}  // namespace shoal
