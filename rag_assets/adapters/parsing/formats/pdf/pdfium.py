"""pdfium: what it finds on the pages of a PDF beside their running text.

What belongs here: calling the library: text, forms, notes, pictures, embedded files. What does
not: what becomes of them (`document.py`), and the order of right-to-left text (`lines.py`).
"""

import ctypes
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import pypdfium2  # type: ignore[import-untyped]
import pypdfium2.raw as pdfium  # type: ignore[import-untyped]

from rag_assets.adapters.parsing.formats.pdf.lines import Character

_NOT_NOTES = (pdfium.FPDF_ANNOT_LINK, pdfium.FPDF_ANNOT_POPUP, pdfium.FPDF_ANNOT_WIDGET)
_CHOICES = (pdfium.FPDF_FORMFIELD_COMBOBOX, pdfium.FPDF_FORMFIELD_LISTBOX)
_DRAWN = (pdfium.FPDF_PAGEOBJ_PATH, pdfium.FPDF_PAGEOBJ_SHADING)
_MAX_OBJECTS = 20_000  # of a page, that are looked at
_MAX_ANNOTATIONS = 5000  # of a page
_TIMES = {"CreationDate": "created", "ModDate": "modified"}
_TIME = re.compile(
    r"(?:D:)?(\d{4})(\d\d)?(\d\d)?(?:(\d\d)(\d\d)(\d\d)?(?:Z|([+-]\d\d)(?:'?(\d\d))?)?)?", re.ASCII
)
_FORM_DEPTH = 4  # drawings inside drawings


@dataclass(frozen=True, slots=True)
class PdfPage:
    """A page as pdfium sees it.

    Attributes:
        text: The text in the order of the library.
        is_upright: Whether the page is shown as its coordinates say.
        fields: The values of the form's fields on the page, by their names.
        notes: The texts of notes and comments.
        image_share: How much of the page its pictures cover, from 0.
        drawings: The number of lines and shapes.
        files: The files in notes: name and content; no content if it cannot be read.
    """

    text: str
    is_upright: bool
    fields: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    image_share: float
    drawings: int
    files: tuple[tuple[str, bytes | None], ...]


class PdfiumDocument:
    """An open PDF."""

    def __init__(self, content: bytes) -> None:
        """Open a PDF.

        Raises:
            pypdfium2.PdfiumError: It cannot be opened.
        """
        self._document = pypdfium2.PdfDocument(content)
        with suppress(pypdfium2.PdfiumError):
            self._document.init_forms()

    def __enter__(self) -> "PdfiumDocument":
        return self

    def __exit__(self, *error: object) -> None:
        self._document.close()

    def __len__(self) -> int:
        return len(self._document)

    @property
    def has_dynamic_form(self) -> bool:
        """Whether the pages are a placeholder for a form in XML (XFA)."""
        return bool(self._document.get_formtype() == pdfium.FORMTYPE_XFA_FULL)

    def page(self, index: int) -> PdfPage | None:
        """Return a page; None if it is damaged."""
        try:
            page = self._document[index]
        except pypdfium2.PdfiumError:
            return None
        try:
            fields, notes, files = self._annotations(page)
            share, drawings = _pictures(page)
            upright = page.get_rotation() == 0
            return PdfPage(_text(page), upright, fields, notes, share, drawings, files)
        except pypdfium2.PdfiumError:
            return None
        finally:
            page.close()

    def characters(self, index: int) -> list[Character]:
        """Return the characters of a page with their places."""
        page = self._document[index]
        try:
            return list(_characters(page.get_textpage()))
        finally:
            page.close()

    def files(self) -> Iterator[tuple[str, bytes | None]]:
        """Yield the embedded files."""
        for index in range(self._document.count_attachments()):
            with suppress(pypdfium2.PdfiumError):
                yield _file(self._document.get_attachment(index))

    def properties(self) -> Iterator[tuple[str, object]]:
        """Yield the properties of the document."""
        for name, text in self._document.get_metadata_dict(skip_empty=True).items():
            is_time = name in _TIMES
            yield _TIMES.get(name, name), _iso_time(text) if is_time else text
        yield (
            "language",
            _string(lambda *space: pdfium.FPDFCatalog_GetLanguage(self._document, *space)),
        )

    def form_data(self) -> list[tuple[str, str]]:
        """Return the values of a form in XML (XFA)."""
        values: list[tuple[str, str]] = []
        for index in range(max(0, pdfium.FPDF_GetXFAPacketCount(self._document))):
            if self._packet_name(index) == "datasets":
                with suppress(ElementTree.ParseError):
                    root = ElementTree.fromstring(self._packet(index))
                    values += [
                        (str(node.tag).rpartition("}")[2], " ".join(node.text.split()))
                        for node in root.iter()
                        if not len(node) and node.text and node.text.strip()
                    ]
        return values

    def _packet_name(self, index: int) -> str:
        size = pdfium.FPDF_GetXFAPacketName(self._document, index, None, 0)
        buffer = ctypes.create_string_buffer(size)
        pdfium.FPDF_GetXFAPacketName(self._document, index, buffer, size)
        return buffer.value.decode(errors="replace")

    def _packet(self, index: int) -> bytes:
        size = ctypes.c_ulong()
        pdfium.FPDF_GetXFAPacketContent(self._document, index, None, 0, size)
        buffer = ctypes.create_string_buffer(size.value)
        pdfium.FPDF_GetXFAPacketContent(self._document, index, buffer, size.value, size)
        return buffer.raw

    def _annotations(self, page: Any) -> tuple[Any, Any, Any]:
        fields: list[tuple[str, str]] = []
        notes: list[str] = []
        files: list[tuple[str, bytes | None]] = []
        count = min(pdfium.FPDFPage_GetAnnotCount(page), _MAX_ANNOTATIONS)
        for index in range(count):
            annotation = pdfium.FPDFPage_GetAnnot(page, index)
            if not annotation:
                continue
            kind = pdfium.FPDFAnnot_GetSubtype(annotation)
            if kind == pdfium.FPDF_ANNOT_WIDGET and self._document.formenv:
                fields += self._field(annotation)
            elif kind not in _NOT_NOTES and (text := _entry(annotation, b"Contents")):
                notes.append(text)
            if kind == pdfium.FPDF_ANNOT_FILEATTACHMENT and (
                raw := pdfium.FPDFAnnot_GetFileAttachment(annotation)
            ):
                with suppress(pypdfium2.PdfiumError):
                    files.append(_file(pypdfium2.PdfAttachment(raw, self._document)))
            pdfium.FPDFPage_CloseAnnot(annotation)
        return tuple(fields), tuple(notes), tuple(files)

    def _field(self, annotation: Any) -> Iterator[tuple[str, str]]:
        """Yield the name and the value of a field that has one."""
        environment = self._document.formenv
        kind = pdfium.FPDFAnnot_GetFormFieldType(environment, annotation)

        def ask(function: Callable[..., int]) -> str:
            return _string(lambda *space: function(environment, annotation, *space))

        name = ask(pdfium.FPDFAnnot_GetFormFieldAlternateName)
        name = name or ask(pdfium.FPDFAnnot_GetFormFieldName) or "field"
        checked = pdfium.FPDFAnnot_IsChecked(environment, annotation)
        if kind == pdfium.FPDF_FORMFIELD_CHECKBOX:
            export = ask(pdfium.FPDFAnnot_GetFormFieldExportValue)
            meaning = "" if export.casefold() in ("", "yes", "on", "1") else f" ({export})"
            yield name, f"checked{meaning}" if checked else "not checked"
        elif kind == pdfium.FPDF_FORMFIELD_RADIOBUTTON:
            if checked:
                yield name, ask(pdfium.FPDFAnnot_GetFormFieldExportValue) or "checked"
        elif kind in _CHOICES and (chosen := self._chosen(annotation)):
            yield name, ", ".join(chosen)
        elif kind in (*_CHOICES, pdfium.FPDF_FORMFIELD_TEXTFIELD) and (
            value := ask(pdfium.FPDFAnnot_GetFormFieldValue)
        ):
            yield name, value

    def _chosen(self, annotation: Any) -> list[str]:
        environment = self._document.formenv
        count = pdfium.FPDFAnnot_GetOptionCount(environment, annotation)
        return [
            _string(
                lambda *space, option=option: pdfium.FPDFAnnot_GetOptionLabel(
                    environment, annotation, option, *space
                )
            )
            for option in range(min(count, _MAX_ANNOTATIONS))
            if pdfium.FPDFAnnot_IsOptionSelected(environment, annotation, option)
        ]


def _text(page: Any) -> str:
    return str(page.get_textpage().get_text_bounded())


def _string(ask: Callable[..., int]) -> str:
    """Return a string that the library writes to a buffer, whose size it says first."""
    size = ask(None, 0)
    if size <= 0:
        return ""
    buffer = ctypes.create_string_buffer(size + 2)
    ask(ctypes.cast(buffer, ctypes.POINTER(pdfium.FPDF_WCHAR)), size)
    text = buffer.raw[: size - size % 2].decode("utf-16-le", "replace")
    return text.rstrip("\0").replace("\r\n", "\n").replace("\r", "\n").strip()


def _iso_time(text: str) -> str:
    """Return a time as PDFs have it, such as D:20240702101500+02'00', in the form of ISO 8601."""
    found = _TIME.match(text.strip())
    if not found:
        return ""
    year, month, day, hour, minute, second, zone_hours, zone_minutes = found.groups()
    date = "-".join(filter(None, (year, month, day)))
    if not (day and hour):
        return date
    zone = f"{zone_hours}:{zone_minutes or '00'}" if zone_hours else "+00:00" * ("Z" in found[0])
    return f"{date}T{hour}:{minute}:{second or '00'}{zone}"


def _entry(annotation: Any, key: bytes) -> str:
    return _string(lambda *space: pdfium.FPDFAnnot_GetStringValue(annotation, key, *space))


def _file(attachment: Any) -> tuple[str, bytes | None]:
    name = str(attachment.get_name())
    try:
        return name, bytes(attachment.get_data())
    except pypdfium2.PdfiumError:
        return name, None


def _pictures(page: Any) -> tuple[float, int]:
    """Return the share of the page that pictures cover, and the number of drawn objects."""
    area = 0.0
    drawings = 0
    for number, item in enumerate(page.get_objects(max_depth=_FORM_DEPTH)):
        if number >= _MAX_OBJECTS:
            break
        if item.type == pdfium.FPDF_PAGEOBJ_IMAGE:
            with suppress(pypdfium2.PdfiumError):
                left, bottom, right, top = item.get_bounds()
                area += abs(right - left) * abs(top - bottom)
        elif item.type in _DRAWN:
            drawings += 1
    width, height = page.get_size()
    return area / max(width * height, 1.0), drawings


def _characters(textpage: Any) -> Iterator[Character]:
    for index in range(textpage.count_chars()):
        if pdfium.FPDFText_IsGenerated(textpage, index):
            continue
        character = chr(pdfium.FPDFText_GetUnicode(textpage, index) or 0x20)
        left, bottom, right, top = textpage.get_charbox(index, loose=True)
        yield Character(character, left, bottom, right, top)
