"""Print io/nfc_tables.cpp from Python's Unicode data: python3 io/make_nfc_tables.py > io/nfc_tables.cpp"""
import sys
import unicodedata

HANGUL = range(0xAC00, 0xD7A4)
EVERY = [c for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000 and c not in HANGUL]


def pairs():
    for code in EVERY:
        fields = unicodedata.decomposition(chr(code)).split()
        if fields and not fields[0].startswith("<"):
            parts = [int(field, 16) for field in fields] + [0]
            composes = unicodedata.normalize("NFC", chr(code)) == chr(code)
            yield f"{{{code:#x}, {parts[0]:#x}, {parts[1]:#x}, {str(composes).lower()}}}"


def class_ranges():
    ranges = []
    for code in EVERY:
        kind = unicodedata.combining(chr(code))
        if kind and ranges and ranges[-1][1] == code - 1 and ranges[-1][2] == kind:
            ranges[-1][1] = code
        elif kind:
            ranges.append([code, code, kind])
    return [f"{{{first:#x}, {last:#x}, {kind}}}" for first, last, kind in ranges]


def table(kind, name, rows):
    print(f"constexpr std::array<{kind}, {len(rows)}> {name} = {{{{")
    line = "   "
    for row in rows:
        if len(line) + len(row) + 2 > 100:
            print(line)
            line = "   "
        line += f" {row},"
    print(line + "\n}};\n")


print(f"// Made by io/make_nfc_tables.py from Unicode {unicodedata.unidata_version}; not to be edited.")
print('#include "io/nfc_tables.h"\n\n#include <array>\n\nnamespace lrq::io {\nnamespace {\n\n// clang-format off')
table("NfcPair", "kPairs", list(pairs()))
table("NfcClassRange", "kClassRanges", class_ranges())
print("// clang-format on\n}  // namespace\n")
print("std::span<const NfcPair> nfc_pairs() { return kPairs; }")
print("std::span<const NfcClassRange> nfc_class_ranges() { return kClassRanges; }\n")
print("}  // namespace lrq::io")
