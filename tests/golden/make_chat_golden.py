#!/usr/bin/env python3
"""Writes tests/golden/chat/rendered.jsonl and expressions.jsonl: what Python's Jinja makes of chat templates.

    make_chat_golden.py [SmolLM2-135M-Instruct.Q4_1.gguf]

Needs jinja2; with a model also gguf and numpy, and then the model's own template is rendered too (it is not stored: the test reads it
from the same file). The environment is the one in which Hugging Face renders chat templates. The time is fixed, in UTC.
A line of rendered.jsonl names a template, a conversation and what else it was given (both in inputs.json), and has the prompt or the words
that it raised; a line of expressions.jsonl is [source, output or null where Python fails]."""
import datetime
import json
import os
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "chat")
NOW = 1772323199  # 2026-02-28T23:59:59Z
TEMPLATES = ["plain", "tools", "thinking", "turns", "instruct", "typed", "deepseek", "phi", "command", "glm"]


class Generation(jinja2.ext.Extension):
    """{% generation %}: prints its body, as in a rendering without masks."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


class Raised(Exception):
    pass


def environment():
    def raise_exception(words):
        raise Raised(words)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(format):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).strftime(format)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "The weather at a place, now — or \"later\"", "parameters": {
    "type": "object", "required": ["place"], "properties": {
        "place": {"type": "string", "description": "A town, e.g. Zürich"}, "unit": {"type": "string", "enum": ["°C", "°F"], "default": "°C"},
        "days": {"type": "array", "items": {"type": "integer"}}, "exact": {"type": "boolean", "default": False},
        "range": {"type": "object", "required": ["low"], "properties": {"low": {"type": "number"}, "high": {"type": ["number", "null"]}}},
        "items": {"type": "object"}, "limit": {"type": "number", "default": 2.5}, "anything": {}}}}}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "The time", "parameters": {"type": "object", "properties": {}}}}


def call(name, arguments, id="call12345"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def user(content):
    return {"role": "user", "content": content}


def system(content):
    return {"role": "system", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


CONVERSATIONS = [
    [user("Hello")],
    [user("")],
    [user("  spaces around \n"), assistant("\n yes \n"), user("\tmore\t")],
    [system("You are terse."), user("What is 12 + 30?"), assistant("42"), user("And doubled?")],
    [user("Ünïcödé 世界 😀 \u2028 \" ' \\ \x01 <b>&amp;</b> {{ no }} {% raw %}"), assistant("{# kept #}"), user("</s><|im_end|>")],
    [system("Only a system message")],
    [user("a"), user("b")],
    [assistant("I begin.")],
    [system("s"), user("q"), assistant("a"), system("again"), user("r")],
    [user([{"type": "text", "text": " What is this? "}, {"type": "image"}, {"type": "image_url", "image_url": {"url": "x"}}])],
    [system([{"type": "text", "text": "In parts."}]), user([{"type": "text", "text": "Hi"}])],
    [user("Weather?"), assistant("", tool_calls=[call("get_weather", {"place": "Zürich", "days": [1, 2], "exact": True, "unit": None})]),
     {"role": "tool", "content": "21.5 °C", "tool_call_id": "call12345", "name": "get_weather"}],
    [user("Weather?"), assistant("", tool_calls=[call("get_weather", {"place": "Zürich"})]),
     {"role": "tool", "content": {"temperature": 21.0, "sky": "clear", "wind": [1e-7, 1e16, 123456789012345680, 0.1]}}, assistant("Clear."), user("Thanks")],
    [user("Both?"), assistant("Looking.", tool_calls=[call("clock", {}), call("get_weather", "{\"place\": \"Rome\"}", "abcdefghijkl")]),
     {"role": "tool", "content": "12:00", "tool_call_id": "call12345"}, {"role": "tool", "content": "hot"}],
    [user("Think."), assistant("<think>\nhm\n\n</think>\n\nYes."), user("More."), assistant("No.", reasoning_content="\nwell\n")],
    [user("q"), assistant("<think>a</think>b", tool_calls=[call("clock", {"z": 1, "a": {"y": [], "b": {}}})])],
    [user("q"), {"role": "hidden", "content": "secret"}, assistant("a"), {"role": "stop", "content": ""}, user("never seen")],
    [user("q"), {"role": "tool", "content": "nobody asked"}],
    [user("short id"), assistant("", tool_calls=[call("clock", {}, "x")])],
    [{"role": "critic", "content": "line one\nline two\n\nline four"}, user("q")],
    [{"role": "user", "content": None}],
    [{"role": "user"}],
    [{"content": "no role"}],
    [],
]

GIVEN = [
    {"tools": None, "add_generation_prompt": True, "extra": {}},
    {"tools": None, "add_generation_prompt": False, "extra": {"enable_thinking": False, "date_string": "1 Jan 2025", "reasoning_effort": "high"}},
    {"tools": [WEATHER, CLOCK], "add_generation_prompt": True, "extra": {"enable_thinking": False}},
    {"tools": [CLOCK, WEATHER], "add_generation_prompt": True, "extra": {"tools_in_user_message": False}},
]

EXPRESSIONS = """
{{ none }} {{ true }} {{ false }} {{ None }} {{ True }} {{ False }}
{{ [none, true, 'a', "it's", 'say "x"', 'both \\' and "', 1, 2.0, 1e100, -0.0, 1e-5, 0.0001, 123456789.123] }}
{{ {'a': 1, 'b': [true, none], 3: 'x', none: 2.5, 'n': {'m': {}}} }}
{{ ['tab\\t nl\\n cr\\r bs\\\\ é 世界 \u200b \u00a0 \u00ad \x7f \x01 😀'] }}
{{ 1e15 }} {{ 1e16 }} {{ 1.5e16 }} {{ 123456789012345678 }} {{ 0.1 + 0.2 }} {{ 100.0 }} {{ 1e22 }} {{ 5e-324 }} {{ 1.7976931348623157e308 }}
{{ 7 / 2 }} {{ 8 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 // -2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7.5 % 2 }} {{ -7.5 // 2 }} {{ 2 ** 10 }}
{{ 1 + true }} {{ true + true }} {{ 'ab' * 3 }} {{ 3 * 'ab' }} {{ [1, 2] * 2 }} {{ 'x' * 0 }} {{ 'x' * -1 }} {{ [1] + [2, 'a'] }} {{ 1 + 2.5 }} {{ 2 * 3.5 }}
{{ 'a' ~ 1 ~ none ~ true ~ [1, 'b'] ~ 2.0 ~ undefined_thing ~ {'k': 'v'} }}
{{ 'a' + 1 }}
{{ 1 + 'a' }}
{{ none + 'a' }}
{{ undefined_thing + 'a' }}
{{ undefined_thing }}|{{ undefined_thing is defined }}|{{ undefined_thing | default('d') }}|{{ '' | default('d') }}|{{ '' | default('d', true) }}|{{ none | default('d') }}
{{ undefined_thing.attribute }}
{{ undefined_thing['item'] }}
{{ message.missing.deeper }}
{{ message.missing is defined }} {{ message['missing'] is undefined }} {{ message.text }} {{ message['text'] }}
{% for x in undefined_thing %}never{% else %}empty{% endfor %}
{{ undefined_thing | length }} {{ undefined_thing | list }} {{ undefined_thing | join(',') }}
{{ 'hello'[0] }} {{ 'hello'[-1] }} {{ 'hello'[1:3] }} {{ 'hello'[::-1] }} {{ 'hello'[-3:] }} {{ 'hello'[:-1] }} {{ 'hello'[10:] }}|{{ 'hello'[::2] }} {{ '世界你好'[1:3] }}
{{ [1,2,3,4,5][1:3] }} {{ [1,2,3][::-1] }} {{ [1,2,3][-2:] }} {{ [1,2,3][5:] }} {{ [1,2,3][:100] }} {{ [1,2,3,4][::2] }} {{ [1,2,3,4][3:0:-2] }} {{ [][1:] }}
{{ 'a,b,,c'.split(',') }} {{ ' a  b c '.split() }} {{ 'a b c'.split(' ', 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ''.split() }} {{ ''.split(',') }} {{ 'a\\nb\\n\\nc'.splitlines() }} {{ 'abc'.split('b', maxsplit=1) }}
{{ '  x '.strip() }}| {{ '  x '.lstrip() }}| {{ '  x '.rstrip() }}| {{ 'xxaxx'.strip('x') }} {{ 'abcba'.strip('ab') }} {{ '\\n\\n t \\n'.strip('\\n') }}|
{{ 'Hello World'.upper() }} {{ 'Hello'.lower() }} {{ 'hello wORLD'.capitalize() }} {{ 'hello world'.title() }} {{ 'aB'.swapcase() }} {{ 'straße'.upper() }}
{{ 'hello'.startswith('he') }} {{ 'hello'.endswith('lo') }} {{ 'hello'.startswith(('x', 'he')) }} {{ 'hello'.find('l') }} {{ 'hello'.rfind('l') }} {{ 'hello'.find('z') }} {{ '世界hello'.find('h') }} {{ 'hello'.count('l') }} {{ 'hello'.index('l') }}
{{ 'hello'.replace('l', 'L') }} {{ 'hello'.replace('l', 'L', 1) }} {{ 'aaa'.replace('a', '') }} {{ 'ab'.replace('', '-') }}
{{ ', '.join(['a', 'b']) }} {{ ''.join([]) }} {{ '-'.join('abc') }}
{{ ', '.join([1, 2]) }}
{{ 'a-b'.partition('-') | list }} {{ 'a-b-c'.rpartition('-') | list }} {{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x.txt'.removesuffix('.txt') }} {{ '7'.zfill(3) }} {{ '-7'.zfill(4) }} {{ 'a'.ljust(3) }}|{{ 'a'.rjust(3, '.') }}|{{ 'ab'.center(6, '*') }}
{{ '{} and {}'.format('a', 1) }} {{ '{0}{1}{0}'.format('x', 'y') }} {{ '{a:>5}|{b:<5}|{c:.2f}'.format(a='r', b='l', c=3.14159) }}
{{ '%s is %d or %.1f' | format('x', 3, 2.55) }} {{ '%05d' | format(42) }} {{ '%s' % 'a' }}
{{ '12'.isdigit() }} {{ '1a'.isalnum() }} {{ 'ab'.isalpha() }} {{ 'AB'.isupper() }} {{ 'ab'.islower() }} {{ ' '.isspace() }} {{ ''.isdigit() }} {{ ''.isascii() }} {{ 'A1'.isupper() }} {{ 'a1'.islower() }} {{ '1'.isupper() }} {{ 'hELLO 1x'.capitalize() }}
{{ {'a': 1}.keys() | list }} {{ {'a': 1}.values() | list }} {{ {'a': 1}.get('a') }} {{ {'a': 1}.get('b') }} {{ {'a': 1}.get('b', 'c') }}
{% for k, v in {'z': 1, 'a': 2}.items() %}{{ k }}={{ v }};{% endfor %} {% for k in {'z': 1, 'a': 2} %}{{ k }}{% endfor %}
{% for k, v in {'z': 1, 'a': 2} | items %}{{ k }}={{ v }};{% endfor %} {% for k, v in {'z': 1, 'a': 2} | dictsort %}{{ k }}{% endfor %}
{{ message | tojson }} {{ message | tojson(indent=2) }}
{{ [] | tojson }} {{ {} | tojson(indent=2) }} {{ [[], {}] | tojson(indent=1) }} {{ [1, [2, {'a': 3}]] | tojson(indent=4) }}
{{ 'é"\\\\/\\n\\t\x08\x0c\x01\x7f<>&\u2028😀' | tojson }} {{ 'é😀' | tojson(ensure_ascii=true) }} {{ 'é' | tojson(true) }}
{{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }} {{ {'b': 1, 'a': [1, 2]} | tojson(separators=(',', ':')) }} {{ {3: 2, none: 3, true: 4} | tojson }}
{{ [1.0, 1e100, 1e-7, 0.1, 100000000000000000000.0, true, none] | tojson }}
{{ undefined_thing | tojson }}
{{ 'x' | tojson(indent=2) }} {{ 3 | tojson }}
{{ [3, 1, 2] | sort }} {{ ['b', 'A', 'c'] | sort }} {{ [3, 1, 2] | sort(reverse=true) }} {{ [{'n': 2}, {'n': 1}] | sort(attribute='n') }}
{{ [1, 2, 3] | sum }} {{ [1, 2, 3] | min }} {{ [1, 2, 3] | max }} {{ [1, 2, 3] | first }} {{ [1, 2, 3] | last }} {{ [1, 2, 3] | length }} {{ 'abc' | length }} {{ {'a': 1} | count }}
{{ [1, 2, 1, 3] | unique | list }} {{ [1, 2, 3] | reverse | list }} {{ 'abc' | reverse }} {{ 'abc' | list }} {{ [1, 2, 3, 4, 5] | batch(2) | list }} {{ [1, 2, 3] | batch(2, 'x') | list }} {{ [1, 2, 3, 4, 5] | slice(2) | list }}
{{ [{'a': 1}, {'a': 2}, {}] | selectattr('a') | list }} {{ [{'a': 1}, {'a': 2}] | selectattr('a', 'equalto', 2) | list }} {{ [{'a': 1}, {'a': 2}] | rejectattr('a', '==', 2) | list }} {{ [{'a': 1}, {'a': 2}] | map(attribute='a') | list }}
{{ [1, 2, 3] | select('odd') | list }} {{ [1, 2, 3] | reject('odd') | list }} {{ ['a', 'b'] | map('upper') | join('-') }} {{ [1, none, 2] | select | list }} {{ [{'a': {'b': 1}}] | map(attribute='a.b') | list }}
{{ [1, 'a', none, 2.5, true] | join(', ') }} {{ [{'n': 'x'}, {'n': 'y'}] | join('+', attribute='n') }} {{ 'abc' | join('.') }}
{{ '  a b ' | trim }}| {{ 'xax' | trim('x') }} {{ 'a b' | title }} {{ 'aBC' | capitalize }} {{ 'abc' | upper }} {{ 'ABC' | lower }} {{ [1, 'a'] | upper }} {{ none | lower }} {{ true | trim }} {{ 12 | title }} {{ '' and 'x' }} {{ message.text and 'x' }} {{ message.none and 'x' }} {{ 1 / 4 }} {{ true / 2 }} {{ 'a' / 2 }} {{ 'abcabc' | replace('b', 'X') }} {{ 'aaa' | replace('a', 'b', 2) }}
{{ 'a\\nb\\n\\nc' | indent }}|{{ 'a\\nb' | indent(2, true) }}|{{ 'a\\n\\nb' | indent(2, blank=true) }}|{{ 'a\\nb\\n' | indent(width='> ') }}|
{{ 3.7 | int }} {{ '42' | int }} {{ 'x' | int }} {{ 'x' | int(7) }} {{ '3.9' | int }} {{ '2.5' | float }} {{ 'x' | float }} {{ 3 | float }} {{ 3.14159 | round(2) }} {{ 2.5 | round }} {{ 3.5 | round }} {{ 2.1 | round(0, 'ceil') }} {{ -3 | abs }} {{ 3 | string }} {{ true | int }}
{{ 'a' in 'abc' }} {{ 'z' in 'abc' }} {{ 1 in [1, 2] }} {{ 'a' in {'a': 1} }} {{ 'a' not in [] }} {{ 1 in [true] }} {{ '1' in ['1'] and not 1 in ['1'] }}
{{ 1 == 1.0 }} {{ 1 == true }} {{ 'a' == 'a' }} {{ [1] == [1] }} {{ {'a': 1} == {'a': 1} }} {{ none == false }} {{ 1 < 2 < 3 }} {{ 3 > 2 > 2 }} {{ 'a' < 'b' }} {{ not none }} {{ '1' == 1 }}
{{ 1 is number }} {{ 1.5 is float }} {{ 1 is integer }} {{ true is integer }} {{ true is boolean }} {{ true is number }} {{ 'a' is string }} {{ 1 is string }} {{ none is none }} {{ 0 is none }} {{ true is true }} {{ 1 is true }} {{ false is false }}
{{ [] is sequence }} {{ 'a' is sequence }} {{ {} is sequence }} {{ 1 is sequence }} {{ [] is iterable }} {{ 'a' is iterable }} {{ {} is iterable }} {{ none is iterable }} {{ {} is mapping }} {{ [] is mapping }} {{ none is sequence }} {{ undefined_thing is iterable }}
{{ 3 is odd }} {{ 4 is even }} {{ 6 is divisibleby(3) }} {{ 'a' is lower }} {{ 'A' is upper }} {{ 1 is eq(1) }} {{ 1 is in([1]) }} {{ 2 is ge(1) }} {{ 'x' is sameas('x') }} {{ 'trim' is filter }} {{ 'odd' is test }}
{% for x in [1, 2, 3] %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }} {% endfor %}
{% for x in [1, 2, 3, 4] if x % 2 == 0 %}{{ x }}{{ loop.index }}{{ loop.last }}{% else %}none{% endfor %}
{% for x in range(3) %}{{ x }}{% endfor %} {{ range(1, 10, 3) | list }} {{ range(5, 0, -2) | list }} {{ range(0) | list }}
{% for x in range(9) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for c in 'añb' %}{{ c }}{{ loop.index }}{{ loop.last }}{{ loop.length }}{{ loop.nextitem }}{% endfor %} {% for a, b in [[1, 2], [3, 4]] %}{{ a }}{{ b }}{% endfor %}
{% set ns = namespace(a=1, b='x') %}{% for i in range(3) %}{% set ns.a = ns.a + i %}{% set outer = i %}{% endfor %}{{ ns.a }}{{ ns.b }}{{ outer is defined }}
{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}{% for i in [1] %}{% set x = 3 %}{% endfor %}{{ x }}
{% set a, b = 1, 2 %}{{ a }}{{ b }} {% set c = (1, 2, 3) %}{{ c[1] }} {{ c | length }}
{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}
{% macro m(a, b='d', c=none) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(1, c=3) }}{{ m() }}
{% macro m(x) %}<{{ caller() }}{{ x }}>{% endmacro %}{% call m(1) %}body{% endcall %}
{% filter upper %}abc{% endfilter %} {% set t | trim %}  x  {% endset %}{{ t }}|
{{ 'yes' if true else 'no' }} {{ 'yes' if false }}| {{ ('a' if 0 else 'b') ~ 'c' }} {{ none or 'x' }} {{ '' and 'x' }}| {{ 0 or none or [] }} {{ 'a' and 'b' }} {{ not 0 }}
{{ message.items_ is defined }} {{ {'items': [1], 'keys': 2, 'get': 3}.items() | map('last') | list }} {{ {'items': 5}['items'] }} {{ {'get': 1}.get('get') }} {{ spec.items() | list | length }}
{{ dict(a=1, b='x') }} {{ dict(a=1) | tojson }} {{ [1, [2, [3, []]]] }}
{%- set x = 5 -%} a {{- x -}} b {#- c -#} d {%+ if true %} e {% endif +%} f
a\\n  {% if true %}\\n    b\\n  {% endif %}\\n  c {{ 1 }}  \\n{% if false %}x{% endif %}\\nd\\n\\n
{% raw %}{{ not }} {% this %}{% endraw %} {{ '{{' }} {{ "}}" }}
{{ "a" "b" }} {{ 'it\\'s' }} {{ "\\u00e9\\x41\\n" | length }} {{ 1_000 }} {{ 0x1F }} {{ .5 if false else 1 }}
{{ 10 | string ~ '%' }} {{ (1, 2)[0] }} {{ -5 | abs }} {{ 2 + 3 * 4 ** 2 }} {{ (2 + 3) * 4 }} {{ 10 - 2 - 3 }} {{ - 3 + 5 }} {{ 'a' ~ 1 + 2 }}
{{ raise_exception('stop: ' ~ 1) }}
{{ strftime_now('%Y-%m-%d %H:%M:%S %A %d %b %B %j %p %I') }}
{{ [1, 2].append(3) }}
{{ message.update({'a': 1}) }}
{{ 'abc'.nothing() }}
{{ 1 / 0 }}
{{ [1, 2, 3][10] }}|{{ [1, 2, 3][10] is defined }}
{{ namespace(a=1).a }} {{ namespace().b is defined }} {{ 'a b c'.split()[-1] }} {{ ('a', 'b') | join }} {{ [['a', 1], ['b', 2]] | map('first') | list }} {{ message.text.split('o')[0] | length }}
{{ '<a href="x">&\\'' | e }} {{ '<b>' | escape }} {{ '<b>' | safe }}
{{ [1, 2, 3] | map('string') | join }} {{ ['x', 'y'] | map('length') | sum }} {{ [[1, 2], [3]] | sum(start=[]) }} {{ [{'v': 1}, {'v': 2}] | sum(attribute='v') }}
{{ [{'k': 'a', 'v': 1}, {'k': 'b', 'v': 2}, {'k': 'a', 'v': 3}] | groupby('k') | map('first') | list }} {{ {'a': 1} | length }} {{ 'a,b' | replace(',', '') | upper }} {{ 'word ' * 3 | trim }}
{{ 'a b c' | wordcount }} {{ '%.2f' | format(1.005) }} {{ 'ab' | center(6) }}|
{{ range is defined }}
"""

CONTEXT = {"message": {"role": "user", "text": "hello world", "n": 1, "f": 1.5, "b": True, "none": None, "list": [1, "a"], "z": {"y": "é"}},
           "spec": {"items": {"type": "string"}, "type": "array"}}


def render(env, template, given):
    """The prompt and None, or None and the words that were raised ('' for any other failure)."""
    context = {"messages": given["messages"], "tools": given["tools"], "documents": None, "add_generation_prompt": given["add_generation_prompt"],
               "bos_token": "<s>", "eos_token": "</s>", **given["extra"]}
    try:
        return template.render(**context), None
    except Raised as raised:
        return None, str(raised)
    except Exception:
        return None, ""


def write_rendered(env, model):
    sources = {name: open(os.path.join(FOLDER, name + ".jinja"), encoding="utf-8").read() for name in TEMPLATES}
    if model:
        import gguf
        sources["smollm2"] = gguf.GGUFReader(model).fields["tokenizer.chat_template"].contents()
    with open(os.path.join(FOLDER, "rendered.jsonl"), "w", encoding="utf-8") as out:
        for name, source in sources.items():
            template = env.from_string(source)
            for number, messages in enumerate(CONVERSATIONS):
                for index, given in enumerate(GIVEN):
                    prompt, raised = render(env, template, {"messages": messages, **given})
                    line = {"template": name, "conversation": number, "given": index, "prompt": prompt, "raised": raised}
                    out.write(json.dumps(line, ensure_ascii=False) + "\n")


def expressions():
    for line in EXPRESSIONS.strip("\n").split("\n"):
        if "\\n  {% if" in line:  # the one that is about lines
            yield line.replace("\\n", "\n")
        elif "{%" in line:
            yield line
        else:  # one by one, so that one failure hides no other
            parts = line.split("}} {{")
            for index, part in enumerate(parts):
                yield ("{{" if index else "") + part + ("}}" if index + 1 < len(parts) else "")


def write_expressions(env):
    with open(os.path.join(FOLDER, "expressions.jsonl"), "w", encoding="utf-8") as out:
        for source in expressions():
            try:
                printed = env.from_string(source).render(**CONTEXT, messages=[], bos_token="<s>", eos_token="</s>")
            except Exception:
                printed = None
            out.write(json.dumps([source, printed], ensure_ascii=False) + "\n")


def main():
    env = environment()
    write_rendered(env, sys.argv[1] if len(sys.argv) > 1 else None)
    write_expressions(env)
    with open(os.path.join(FOLDER, "inputs.json"), "w", encoding="utf-8") as out:
        inputs = {"reference": "jinja2 " + jinja2.__version__, "now_unix_s": NOW, "conversations": CONVERSATIONS, "given": GIVEN, "context": CONTEXT}
        json.dump(inputs, out, ensure_ascii=False, indent=1)
        out.write("\n")


if __name__ == "__main__":
    main()
