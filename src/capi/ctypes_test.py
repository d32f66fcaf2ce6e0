#!/usr/bin/env python3
"""libmoxie.so from Python, as the torch layer will call it: ctypes structures made from src/capi/abi.txt.

    ctypes_test.py LIBRARY

Needs no GPU: what is passed must reach the checks, and the versions of a struct must be read as moxie.h says.
"""

import ctypes
import pathlib
import sys
import unittest

TABLE = pathlib.Path(__file__).resolve().parent / "abi.txt"
TYPES = {"uint32_t": ctypes.c_uint32, "int64_t": ctypes.c_int64, "uint64_t": ctypes.c_uint64, "float": ctypes.c_float}
OK, INVALID_ARGUMENT, UNSUPPORTED = 0, 1, 2


def structures() -> dict[str, type[ctypes.Structure]]:
    result: dict[str, type[ctypes.Structure]] = {}
    fields: dict[str, list[tuple[str, type]]] = {}
    name = ""
    for line in TABLE.read_text().splitlines():
        words = line.split()
        if words[0] == "struct":
            name = words[1]
            fields[name] = []
        elif line.startswith("  "):
            kind = " ".join(words[2:-1])
            fields[name].append((words[-1], ctypes.c_void_p if kind.endswith("*") else TYPES[kind]))
    for name, members in fields.items():
        result[name] = type(name, (ctypes.Structure,), {"_fields_": members})
    return result


STRUCTS = structures()
LIBRARY = ctypes.CDLL(sys.argv.pop(1))
LIBRARY.moxie_last_error.restype = ctypes.c_char_p
LIBRARY.moxie_abi_version.restype = ctypes.c_uint32


def make(name: str, **values: int) -> ctypes.Structure:
    struct = STRUCTS[name]()
    struct.struct_size = ctypes.sizeof(struct)
    for field, value in values.items():
        setattr(struct, field, value)
    return struct


def sentence() -> str:
    return LIBRARY.moxie_last_error().decode()


class Layout(unittest.TestCase):
    def test_structures_are_as_large_as_in_c(self) -> None:
        sizes = dict(line.split()[1:] for line in TABLE.read_text().splitlines() if line.startswith("struct "))
        for name, struct in STRUCTS.items():
            self.assertEqual(ctypes.sizeof(struct), int(sizes[name]), name)

    def test_major_version(self) -> None:
        major, minor = TABLE.read_text().splitlines()[0].split()[1].split(".")
        self.assertEqual(LIBRARY.moxie_abi_version(), int(major) << 16 | int(minor))


class Calls(unittest.TestCase):
    def linear(self, **values: int) -> ctypes.Structure:
        return make("moxie_mxfp4_linear_args", **{"layout": 1, "rows": 2, "n": 32, "k": 64, "x": 1 << 20, "codes": 1 << 21,
                                                  "scales": 1 << 22, "out": 1 << 23, **values})

    def ask(self, args: ctypes.Structure) -> int:
        return LIBRARY.moxie_mxfp4_linear(ctypes.byref(args), None)

    def test_values_arrive(self) -> None:
        self.assertEqual(self.ask(self.linear(k=72)), INVALID_ARGUMENT)
        self.assertIn("multiple of 32 columns, got 32 x 72", sentence())
        self.assertEqual(self.ask(self.linear(out_stride=40, x_stride=60)), INVALID_ARGUMENT)
        self.assertIn("lie only 60 apart", sentence())
        self.assertEqual(self.ask(self.linear(layout=0)), UNSUPPORTED)
        self.assertIn("prepack them first", sentence())

    def test_shorter_struct(self) -> None:
        args = self.linear(rows=0, workspace=12345, workspace_bytes=1)
        args.struct_size = STRUCTS["moxie_mxfp4_linear_args"].out.offset
        self.ask(args)
        after_checks = sentence()
        args.struct_size = STRUCTS["moxie_mxfp4_linear_args"].k.offset + 8
        args.out_stride = -77  # not read any more
        self.ask(args)
        self.assertIn("codes or scales", sentence())
        self.assertNotIn("codes or scales", after_checks)

    def test_longer_struct(self) -> None:
        class Longer(ctypes.Structure):
            _fields_ = [("known", STRUCTS["moxie_mxfp4_linear_args"]), ("tail", ctypes.c_uint64 * 2)]

        longer = Longer(known=self.linear(k=72))
        longer.known.struct_size = ctypes.sizeof(longer)
        self.assertEqual(self.ask(longer), INVALID_ARGUMENT)  # of k, so the struct was taken
        longer.tail[1] = 1
        self.assertEqual(self.ask(longer), UNSUPPORTED)
        self.assertIn("does not know", sentence())

    def test_no_struct(self) -> None:
        self.assertEqual(LIBRARY.moxie_mxfp4_linear(None, None), INVALID_ARGUMENT)
        self.assertEqual(sentence(), "the moxie_mxfp4_linear_args is null")
        args = self.linear()
        args.struct_size = 0
        self.assertEqual(self.ask(args), INVALID_ARGUMENT)

    def test_workspace_bytes(self) -> None:
        size = ctypes.c_uint64(77)
        desc = make("moxie_mxfp4_linear_desc", rows=16, n=2880, k=2880)
        status = LIBRARY.moxie_mxfp4_linear_workspace_bytes(ctypes.byref(desc), ctypes.byref(size))
        if status == OK:
            self.assertLess(size.value, 512 << 20)
        else:
            self.assertEqual(status, UNSUPPORTED)
            self.assertIn("built without CUDA", sentence())


if __name__ == "__main__":
    unittest.main()
