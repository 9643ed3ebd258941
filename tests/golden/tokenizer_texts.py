"""The strings with which make_tokenizer_golden.py asks tokenizers: written samples in many scripts, code, white space, control
characters, special tokens inside text, and what a seeded generator makes of them."""
import random
import unicodedata

WRITTEN = """
The quick brown fox jumps over the lazy dog.
It's what we're used to; they've said I'm sure you'll see, he'd agree. IT'S WE'RE THEY'VE I'M YOU'LL HE'D
don't can't won't 'tis 'twas o'clock rock'n'roll ''quoted'' 'single' "double" `back`
Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. Straße, Äpfel, Öl, Übung, ẞ.
Portez ce vieux whisky au juge blond qui fume. L'été, où ça ? Déjà vu — l'œuvre naïve.
El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia. ¿Qué tal? ¡Mañana!
Pchnąć w tę łódź jeża lub ośm skrzyń fig. Zażółć gęślą jaźń.
Příliš žluťoučký kůň úpěl ďábelské ódy. Árvíztűrő tükörfúrógép.
Съешь же ещё этих мягких французских булок, да выпей чаю.
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Καλημέρα κόσμε!
Pijamalı hasta yağız şoföre çabucak güvendi. İstanbul ığdır.
Kæmi ný öxi hér, ykist þjófum nú bæði víl og ádrepa. Ærøskøbing, Ålesund.
עטלף אבק נס דרך מזגן שהתפוצץ כי חם. שָׁלוֹם עוֹלָם
نص حكيم له سر قاطع وذو شأن عظيم. السَّلَامُ عَلَيْكُمْ ١٢٣٤٥ ۱۲۳
یہ اردو ہے۔ این فارسی است، می‌خواهم.
ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण। १२३ नमस्ते दुनिया
আমার সোনার বাংলা। ১২৩ தமிழ் மொழி வாழ்க தெலుగు భాష ಕನ್ನಡ മലയാളം ગુજરાતી ਪੰਜਾਬੀ
เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน ๑๒๓
ລາວ ខ្មែរ မြန်မာ བོད་ཡིག ᠮᠣᠩᠭᠣᠯ ქართული Հայերեն አማርኛ ᏣᎳᎩ ᚠᚢᚦ
天地玄黃，宇宙洪荒。日月盈昃，辰宿列張。你好，世界！１２３ＡＢＣ
いろはにほへと ちりぬるを。カタカナ ﾊﾝｶｸ 漢字とかな、「引用」・・・ー〜
키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다. ㅋㅋㅋ
Tiếng Việt: Trăm năm trong cõi người ta, chữ tài chữ mệnh khéo là ghét nhau.
😀😃😄 👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇯🇵 ❤️ ☃️ 1️⃣ #️⃣ 🤷🏿‍♀️ ✨🔥💯
∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α∧¬β = ¬(¬α∨β), ∑∏∫√∞≈≠≤≥±×÷ ½¼¾ x²y³ ₁₂ Ⅳⅷ ①② ㈠ ℃ €£¥₹₿
“curly” ‘quotes’ – en — em … ellipsis • bullet † dagger § ¶ © ® ™ ª º « »
é é ñ ñ Å Å ﬁ ﬂ ŀ ǆ Ǆ ß ſ İ ı Ω Ω K Å
def fibonacci(n: int) -> int:\\n    if n < 2:\\n        return n\\n    return fibonacci(n - 1) + fibonacci(n - 2)\\n
#include <vector>\\nint main(int argc, char** argv) {\\n\\tstd::vector<int> v{1, 2, 3};\\n\\treturn v[0] ^ ~v[1] & 0xFFull;\\n}\\n
for (let i = 0; i < 10; i++) { console.log(`${i}: ${arr[i] ?? "none"}`); } // done => true && !false || null
SELECT a.id, COUNT(*) AS n FROM t AS a LEFT JOIN u ON a.id = u.a_id WHERE a.x LIKE '%_y%' GROUP BY 1 HAVING n > 10;
<html lang="en"><body class='x y'><!-- comment --><a href="https://example.org/?q=1&amp;r=%20#top">link</a></body></html>
{"key": [1, 2.5, -3e10, true, false, null, "\\\\u00e9\\\\n"], "nested": {"a": {"b": {}}}}
- [ ] todo\\n- [x] done\\n\\n| a | b |\\n|---|:-:|\\n| `code` | **bold** _it_ |\\n\\n```rust\\nfn main() {}\\n```\\n
\\\\begin{equation} \\\\frac{1}{2} \\\\alpha_{i,j}^{2} \\\\end{equation} $x^2$ $$y$$
$ ls -la ~/.config | grep -E '^d.*' > /dev/null 2>&1 && echo "$HOME" || exit 1; rm -rf ./*.o
192.168.0.1:8080 2001:db8::1 user.name+tag@example.co.uk C:\\\\Windows\\\\System32 /usr/local/bin/x86_64-linux-gnu-g++-12
2024-02-29T23:59:59.999Z 1,234,567.89 3.14159265358979 0b1010 0o777 0xDEADBEEF 1e-9 +49 (0)30 123456 100% $5.00
aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
ThisIsCamelCase andThisToo SCREAMING_SNAKE_CASE kebab-case-words dotted.name.path __init__ _private $var @decorator
lol!!!!!!!! ??? ?!?! ... ..... ---- ==== **** ____ #### //// \\\\\\\\ <<<>>> (((()))) [[]] {{}} ~~~ ^^^ &&& |||
supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis antidisestablishmentarianism
Lopado­temacho­selacho­galeo (soft hyphens) zero​width​space non breaking narrow space word⁠joiner ﻿bom
"""

SPACES = [" ", "  ", "   ", "    ", "        ", "\t", "\t\t", " \t ", "\n", "\n\n", "\n\n\n", "\r\n", "\r\n\r\n", "\r", " \n", "\n ", "  \n  ",
          "\v", "\f", "\u00a0", "\u1680", "\u2003", "\u2009", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u0085", "\u200b", "\u00ad",
          "\ufeff", "\x1c", "\x1f", " " * 15, " " * 16, " " * 17, " " * 31, " " * 64, " " * 100, "\n" * 10, "\t" * 9, " \n" * 6]
WORDS = ["the", "The", "THE", "a", "I", "Hello", "world", "naïve", "über", "мир", "слово", "世界", "你", "こんにちは", "안녕", "שלום", "سلام", "नमस्ते",
         "สวัสดี", "x", "foo_bar", "self", "0", "1", "42", "007", "1000000", "3.14", "٣", "५", "²", "Ⅷ", "½", "😀", "👍🏽", "🇫🇷", "e\u0301", "\u0301", "\u200d",
         "'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "’s", "'", "''", "'x", ".", ",", "!", "?", "...", "-", "--", "_", "/", "\\", "(", ")",
         "{", "}", "[", "]", "<", ">", "=", "==", "=>", "->", "+", "*", "**", "#", "@", "&", "|", "~", "^", "%", "$", "`", "\"", ":", ";", "::", "://",
         "\x00", "\x01", "\x07", "\x08", "\x1b[31m", "\x7f", "\x80", "\x9f", "\ue000", "\uf8ff", "\ufffd", "\uffff", "\U0001f9d1", "\U000e0041",
         "\U00010348", "\U0010ffff", "\ud7ff", "\u0378"]


def strings(special):
    random.seed(20241)
    yield ""
    for line in WRITTEN.strip().split("\n"):
        line = line.replace("\\\\", "\0").replace("\\n", "\n").replace("\\t", "\t").replace("\0", "\\")
        yield line
        words = line.split(" ")
        for size in (1, 2, 5):
            for start in range(0, len(words), size * 2):
                piece = " ".join(words[start:start + size])
                yield piece
                yield " " + piece
        yield line.upper()
        yield line.replace(" ", "  ")
        yield line.replace(" ", "")
    # Every kind of character: eight of each run of 128 code points that has any.
    for start in range(0, 0x110000, 128):
        if start > 0x32000 and start % 4096:
            continue
        block = [c for c in range(start, start + 128) if not 0xD800 <= c < 0xE000 and unicodedata.category(chr(c)) != "Cn"]
        if block:
            sample = [chr(c) for c in block[:: max(1, len(block) // 8)][:8]]
            yield "".join(sample)
            yield "a" + " ".join(sample[:4]) + "1"
    for character in range(0x100):
        yield chr(character)
        yield "x" + chr(character) + " " + chr(character) * 2 + "y"
    for space in SPACES:
        yield space
        yield "a" + space + "b"
        yield space + "a"
        yield "a" + space
        yield "1" + space + "2" + space + "."
    for length in range(1, 33):
        yield "1234567890" * 3 + "12"[:length] if length > 30 else "1234567890123456789012345678901"[:length]
        yield "v" + "9" * length
        yield " " * length + "x"
        yield "x" + "\n" * length + "y"
        yield "a" * length
        yield "=" * length
    for token in special:
        for text in (token, token * 2, "a" + token + "b", " " + token + " ", token[:-1], token[1:], token.upper(), "\n" + token + "\n",
                     "<" + token + ">", token + "'s", "1" + token + "2"):
            yield text
    yield "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nWhat is 12 + 30?<|im_end|>\n<|im_start|>assistant\n"
    for _ in range(1500):
        parts = []
        for _ in range(random.randint(2, 12)):
            parts.append(random.choice(random.choice((WORDS, WORDS, WORDS, SPACES[:14], [" "], [" "], special))))
        yield "".join(parts)
    for _ in range(300):
        length = random.randint(1, 24)
        kinds = ((0x20, 0x7e), (0x20, 0x7e), (0xa0, 0x24f), (0x370, 0x52f), (0x590, 0x6ff), (0x900, 0xdff), (0x3040, 0x30ff), (0x4e00, 0x9fff),
                 (0xac00, 0xd7a3), (0x1f300, 0x1faff), (0, 0x1f), (0x2000, 0x2bff), (0xe000, 0xfffd), (0x10000, 0x10ffff))
        yield "".join(chr(random.randint(*random.choice(kinds))) for _ in range(length))
