"""Small, well-formed documents of every format that is read, as bytes.

Every generator takes the words it writes, so that a test can look for exactly them.
Broken and malicious documents are in `hostile.py`.
"""

import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from email.message import EmailMessage

PROSE = "The index follows the bucket, and a deleted document never comes back."


def zip_bytes(members: Mapping[str, str | bytes]) -> bytes:
    """A deflated ZIP archive with these members, in this order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def docx_bytes(
    title: str = "Quarterly report",
    sections: Mapping[str, str] | None = None,
    *,
    core_title: str = "",
) -> bytes:
    """A Word document: one first-level heading, then a second-level heading per section."""
    import docx  # noqa: PLC0415

    document = docx.Document()
    document.core_properties.title = core_title
    document.add_heading(title, level=1)
    for heading, text in (sections or {"Findings": PROSE}).items():
        document.add_heading(heading, level=2)
        document.add_paragraph(text)
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def pptx_bytes(slides: Sequence[tuple[str, str]] = (("First", PROSE), ("Second", PROSE))) -> bytes:
    """A presentation with a title and a body on each slide."""
    import pptx  # noqa: PLC0415

    presentation = pptx.Presentation()
    for title, body in slides:
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = body
    buffer = io.BytesIO()
    presentation.save(buffer)
    return buffer.getvalue()


def xlsx_bytes(sheets: Mapping[str, Iterable[Sequence[object]]] | None = None) -> bytes:
    """A workbook with these sheets."""
    import openpyxl  # noqa: PLC0415

    workbook = openpyxl.Workbook()
    workbook.remove(workbook.active)
    default = {"Prices": [["item", "price"], ["bolt", 3]], "Stock": [["item", "count"], ["nut", 7]]}
    for name, rows in (sheets or default).items():
        sheet = workbook.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
    buffer = io.BytesIO()
    workbook.save(buffer)
    return buffer.getvalue()


def pdf_bytes(
    pages: Sequence[tuple[str, str]] = (("First page", PROSE), ("Second page", PROSE)),
    *,
    title: str = "",
    password: str | None = None,
) -> bytes:
    """A PDF whose pages have a large heading and a paragraph in small type."""
    from reportlab.pdfgen.canvas import Canvas  # noqa: PLC0415

    buffer = io.BytesIO()
    canvas = Canvas(buffer, encrypt=password, invariant=True)
    canvas.setTitle(title)
    for heading, text in pages:
        canvas.setFont("Helvetica-Bold", 24)
        canvas.drawString(72, 760, heading)
        canvas.setFont("Helvetica", 11)
        canvas.drawString(72, 720, text)
        canvas.drawString(72, 704, "A second line of ordinary text stands below the first one.")
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def encrypted_pdf_bytes() -> bytes:
    """A PDF that cannot be opened without its password."""
    return pdf_bytes(password="secret")


def scanned_pdf_bytes() -> bytes:
    """A PDF with a drawing and no text layer, as a scanner makes it."""
    from reportlab.pdfgen.canvas import Canvas  # noqa: PLC0415

    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=True)
    canvas.rect(72, 72, 400, 600, fill=1)
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def eml_bytes(
    subject: str = "Shipping notice",
    body: str = PROSE,
    attachment: tuple[str, bytes] | None = None,
) -> bytes:
    """An e-mail in plain text, with at most one attachment."""
    message = EmailMessage()
    message["From"] = "Ada <ada@example.org>"
    message["To"] = "Grace <grace@example.org>"
    message["Subject"] = subject
    message["Date"] = "Mon, 05 Jan 2026 10:00:00 +0000"
    message.set_content(body)
    if attachment:
        name, content = attachment
        message.add_attachment(
            content, maintype="application", subtype="octet-stream", filename=name
        )
    return message.as_bytes()


_CONTAINER = """<?xml version="1.0"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles>
</container>"""


def epub_members(title: str = "The small book", chapters: Sequence[str] = ("One", "Two")) -> dict:
    """The members of an EPUB with one file per chapter; `zip_bytes` makes the book of them."""
    numbers = range(len(chapters))
    manifest = "".join(
        f'<item id="c{n}" href="c{n}.xhtml" media-type="application/xhtml+xml"/>' for n in numbers
    )
    spine = "".join(f'<itemref idref="c{n}"/>' for n in numbers)
    package = (
        '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0" '
        'unique-identifier="id"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f'<dc:identifier id="id">x</dc:identifier><dc:title>{title}</dc:title>'
        f"<dc:language>en</dc:language></metadata><manifest>{manifest}</manifest>"
        f"<spine>{spine}</spine></package>"
    )
    pages = {
        f"c{n}.xhtml": '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>x</title></head>'
        f"<body><h1>{chapters[n]}</h1><p>{PROSE}</p></body></html>"
        for n in numbers
    }
    return {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": _CONTAINER,
        "book.opf": package,
        **pages,
    }


def epub_bytes(title: str = "The small book", chapters: Sequence[str] = ("One", "Two")) -> bytes:
    """An EPUB with one file per chapter."""
    return zip_bytes(epub_members(title, chapters))


def html_bytes(title: str = "Installation", body: str = f"<h1>Install</h1><p>{PROSE}</p>") -> bytes:
    """A page with navigation and a footer around its main content."""
    return (
        f"<!doctype html><html><head><title>{title}</title><style>p {{ color: red }}</style></head>"
        "<body><nav><a href='/'>Home</a></nav>"
        f"<main>{body}</main><footer>All rights reserved</footer></body></html>"
    ).encode()


def markdown_bytes(title: str = "Guide", body: str = PROSE) -> bytes:
    """A Markdown file with two headings."""
    return f"# {title}\n\n{body}\n\n## Details\n\n{body}\n".encode()


def rtf_bytes(text: str = PROSE) -> bytes:
    """An RTF document with a heading and a paragraph."""
    return (
        r"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0\fcharset0 Times;}}"
        r"\pard\outlinelevel0 Findings\par\pard\outlinelevel9 "
        f"{text}\\par}}"
    ).encode("cp1252")


_NAMESPACES = (
    " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{address}:1.0"'
        for name, address in (
            *(("office", "office"), ("text", "text"), ("table", "table"), ("draw", "drawing")),
            *(("style", "style"), ("presentation", "presentation")),
        )
    )
    + ' xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:dc="http://purl.org/dc/elements/1.1/"'
)


def opendocument_bytes(kind: str, body: str, members: Mapping[str, str] | None = None) -> bytes:
    """An OpenDocument file of this kind: `text`, `spreadsheet` or `presentation`."""
    content = (
        f"<office:document-content {_NAMESPACES}><office:body><office:{kind}>{body}"
        f"</office:{kind}></office:body></office:document-content>"
    )
    mimetype = f"application/vnd.oasis.opendocument.{kind}"
    return zip_bytes({"mimetype": mimetype, "content.xml": content, **(members or {})})


def odt_bytes(text: str = PROSE) -> bytes:
    """An OpenDocument text with a heading and a paragraph."""
    return opendocument_bytes(
        "text", f'<text:h text:outline-level="1">Findings</text:h><text:p>{text}</text:p>'
    )


def ods_bytes(rows: Sequence[Sequence[str]] = (("text",), (PROSE,))) -> bytes:
    """An OpenDocument spreadsheet with one sheet."""
    cell = "<table:table-cell><text:p>{}</text:p></table:table-cell>"
    lines = "".join(
        f"<table:table-row>{''.join(map(cell.format, row))}</table:table-row>" for row in rows
    )
    return opendocument_bytes("spreadsheet", f'<table:table table:name="A">{lines}</table:table>')


def odp_bytes(text: str = PROSE) -> bytes:
    """An OpenDocument presentation with one slide."""
    frame = "<draw:frame{}><draw:text-box><text:p>{}</text:p></draw:text-box></draw:frame>"
    title = frame.format(' presentation:class="title"', "Findings")
    return opendocument_bytes(
        "presentation", f'<draw:page draw:name="p">{title}{frame.format("", text)}</draw:page>'
    )
