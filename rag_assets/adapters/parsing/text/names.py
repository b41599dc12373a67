"""Which files are read as plain text, by their names.

What belongs here: names and extensions. What does not: reading (`plain.py`), and formats with a
reader of their own (`parser.py`).
"""

import mimetypes
from enum import Enum
from pathlib import PurePosixPath


class Kind(Enum):
    """What a file's name says of it."""

    TEXT = "text"
    SOURCE_CODE = "source code"
    SECRET = "a file of secrets"
    BINARY = "binary"
    UNKNOWN = "unknown"  # the content decides


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SOURCE_CODE = _words(
    ".ada .asm .awk .bas .bash .bat .c .cc .cjs .clj .cljs .cmake .cmd .coffee .cpp .cs .css .cu"
    " .cxx .d .dart .diff .dockerfile .el .elm .erl .ex .exs .f .f90 .fish .fs .fsx .gd .go .gradle"
    " .graphql .groovy .h .hcl .hh .hpp .hrl .hs .hxx .ipp .java .jl .js .jsx .kt .kts .less .lisp"
    " .lua .m .mjs .mk .ml .mli .mm .nim .nix .pas .patch .php .pl .pm .proto .ps1 .psm1 .py .pyi"
    " .pyx .r .rb .rkt .rs .s .sass .scala .scm .scss .sh .sol .sql .sv .svelte .swift .tcl .tf"
    " .thrift .ts .tsx .v .vb .vbs .vhd .vhdl .vue .zig .zsh"
)
_SOURCE_NAMES = _words(
    "brewfile cmakelists.txt dockerfile gemfile jenkinsfile makefile procfile rakefile vagrantfile"
)
_SECRETS = _words(".env .jks .kdbx .key .keystore .ovpn .p12 .pem .pfx .ppk")
_SECRET_NAMES = _words(
    ".env .netrc .npmrc .pgpass .pypirc credentials id_dsa id_ecdsa id_ed25519 id_rsa"
)
# Of the types below, these are text; `.ts` is also a video.
_TEXT = _words(
    ".adoc .asciidoc .cfg .conf .csl .dita .ditamap .geojson .ini .json .json5 .jsonc .jsonl"
    " .log .ndjson .org .properties .rst .srt .tex .text .toml .txt .vtt .xml .xsd .xsl .xslt"
    " .yaml .yml"
)
_BINARY_TYPES = ("audio/", "font/", "image/", "video/")
_BINARY = _words(
    ".7z .a .accdb .apk .arrow .avro .bin .blend .bz2 .cab .class .crx .db .dbf .deb .dll .dmg"
    " .dwg .dylib .ear .eot .exe .feather .flac .gguf .gz .h5 .hdf5 .img .iso .jar .lz4 .lzma .mdb"
    " .mkv .mo .msi .nc .npy .npz .nupkg .o .obj .onnx .orc .parquet .pack .pickle .pkl .pt .pth"
    " .pyc .rar .rpm .safetensors .so .sqlite .sqlite3 .swf .tar .tgz .tiff .ttf .vmdk .war .wasm"
    " .webp .whl .woff .woff2 .xz .z .zip .zst"
)


def kind_of(document_id: str) -> Kind:
    """Return what the name of a file without a format of its own says of it."""
    path = PurePosixPath(document_id)
    name, extension = path.name.lower(), path.suffix.lower()
    if extension in _SECRETS or name in _SECRET_NAMES or name.startswith(".env."):
        return Kind.SECRET
    if extension in _SOURCE_CODE or name in _SOURCE_NAMES:
        return Kind.SOURCE_CODE
    if extension in _TEXT:
        return Kind.TEXT
    media_type = mimetypes.guess_type(name, strict=False)[0] or ""
    if extension in _BINARY or media_type.startswith(_BINARY_TYPES):
        return Kind.BINARY
    return Kind.UNKNOWN
