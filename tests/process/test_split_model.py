"""A model in several files, named by its path on one node, runs over two: the other node fetches every part."""
import struct
import unittest

from local_nodes import Node, pair, until
from support import MODEL_FILE, WithNodes, ask, refused

WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


class Header:
    """Where the pieces of a GGUF file's header lie."""

    def __init__(self, data):
        self.data, self.at = data, 8
        tensor_count, self.entry_count = self.take("QQ")
        begin = self.at
        for _ in range(self.entry_count):
            self.skip_text()
            self.skip_value(*self.take("I"))
        self.metadata = data[begin : self.at]
        self.tensors = []  # name to type as they stand in the file, offset of the data
        for _ in range(tensor_count):
            begin = self.at
            self.skip_text()
            (dimensions,) = self.take("I")
            self.at += 8 * dimensions + 4
            described = data[begin : self.at]
            self.tensors.append((described, *self.take("Q")))
        self.data_begin = -(-self.at // 32) * 32

    def take(self, form):
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values

    def skip_text(self):
        (length,) = self.take("Q")
        self.at += length

    def skip_value(self, kind):
        if kind == 8:
            self.skip_text()
        elif kind == 9:
            element, count = self.take("IQ")
            if element != 8:
                self.at += WIDTHS[element] * count
            for _ in range(count if element == 8 else 0):
                self.skip_text()
        else:
            self.at += WIDTHS[kind]


def split(source, folder, count):
    """Writes `source` as `count` parts; the path of the first."""
    data = source.read_bytes()
    header = Header(data)
    ends = [offset for _, offset in header.tensors[1:]] + [len(data) - header.data_begin]
    share = -(-len(header.tensors) // count)
    paths = []
    for number in range(count):
        mine = range(number * share, min((number + 1) * share, len(header.tensors)))
        keys = (("split.no", number), ("split.count", count), ("split.tensors.count", len(header.tensors)))
        metadata = header.metadata if number == 0 else b""
        for key, value in keys:
            metadata += struct.pack("<Q", len(key)) + key.encode() + struct.pack("<II", 4, value)
        head = b"GGUF" + struct.pack("<IQQ", 3, len(mine), (header.entry_count if number == 0 else 0) + len(keys)) + metadata
        body = b""
        for index in mine:
            described, offset = header.tensors[index]
            head += described + struct.pack("<Q", len(body))
            body += data[header.data_begin + offset : header.data_begin + ends[index]]
            body += bytes(-len(body) % 32)
        paths.append(folder / f"split-{number + 1:05}-of-{count:05}.gguf")
        paths[-1].write_bytes(head + bytes(-len(head) % 32) + body)
    return paths


class SplitModel(WithNodes):
    def test_over_two_nodes(self):
        folder = self.scratch / "files"
        folder.mkdir()
        paths = split(MODEL_FILE, folder, 3)
        a = Node(self.scratch / "alder", "127.0.0.2")
        self.nodes.append(a)
        b = Node(self.scratch / "birch", "127.0.0.3")
        self.nodes.append(b)
        pair(a, b)
        first, second = str(paths[0]), str(paths[1])
        a.shoal("place", second, "--nodes", "2", "--context", "512")
        instance = until(lambda: (lambda i: i if i and i["state"] == "ready" else None)(a.instance(second) or a.instance(first)), "the instance")
        self.assertEqual([rank["state"] for rank in instance["ranks"]], ["ready", "ready"])
        (fetched,) = b.json("list")["models"]
        self.assertEqual(fetched["sha256"], instance["sha256"])
        self.assertEqual(fetched["part_count"], 3)
        self.assertEqual(fetched["size_bytes"], sum(path.stat().st_size for path in paths))
        question = {"model": instance["model"], "temperature": 0, "max_tokens": 12, "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
        status, answer = ask(a, question)
        self.assertEqual(status, 200, answer)
        self.assertGreater(len(answer["choices"][0]["message"]["content"]), 10)

    def test_a_missing_part_is_named(self):
        paths = split(MODEL_FILE, self.scratch, 2)
        paths[1].unlink()
        code, said = refused(self, "inspect", paths[0], home=self.scratch / "home")
        self.assertEqual(code, 3)
        self.assertIn(f"{paths[1]} is missing", said)


if __name__ == "__main__":
    unittest.main()
