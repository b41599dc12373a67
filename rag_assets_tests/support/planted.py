"""Documents with planted sentences: generated formats, encodings and structures.

Every sentence that `Plant` gives out stands at a place of its own in the document, under a code
that no other sentence has. So a parsed document can be asked for each of them.
"""

import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.mime.message import MIMEMessage
from email.policy import SMTP
from pathlib import Path

from rag_assets_tests.support.documents import epub_members, zip_bytes

LANGUAGES = json.loads(Path(__file__).with_name("languages.json").read_text())
"""Each has a `sentence`, and the `encodings` that hold it."""


@dataclass
class Plant:
    """Gives out sentences in one language, and remembers where they were planted."""

    chance: random.Random
    sentence: str
    places: dict[str, str] = field(default_factory=dict)

    def at(self, place: str) -> str:
        """Return a new sentence that is planted at a place."""
        code = "".join(self.chance.choices("BCDFGHJKLMNPQRSTVWXZ23456789", k=8))
        text = f"{self.sentence} {code}"
        self.places[text] = place
        return text


@dataclass(frozen=True)
class Planted:
    """A generated document: sentence → where it stands."""

    name: str
    content: bytes
    places: dict[str, str]


def planted_documents(seed: int, count: int) -> Iterator[Planted]:
    """Yield documents, the same ones for the same seed."""
    for number in range(count):
        chance = random.Random(f"{seed}-{number}")
        language = chance.choice(LANGUAGES)
        plant = Plant(chance, language["sentence"])
        extension, write = chance.choice(list(WRITERS.items()))
        content = write(plant, chance.choice(language["encodings"]))
        yield Planted(f"{number:04}{extension}", content, plant.places)


def _some(plant: Plant, parts: list[Callable[[], str]]) -> list[str]:
    """Return at least two of the parts, in any order."""
    return [part() for part in plant.chance.sample(parts, plant.chance.randint(2, len(parts)))]


def _text(plant: Plant, encoding: str) -> bytes:
    lines = [plant.at(f"line in {encoding}") for _ in range(plant.chance.randint(3, 30))]
    newline = plant.chance.choice(["\n", "\r\n", "\n\n", "\r"])
    return newline.join(lines).encode(encoding)


def _markdown(plant: Plant, encoding: str) -> bytes:
    parts: list[Callable[[], str]] = [
        lambda: f"# {plant.at('heading')}",
        lambda: f"{plant.at('setext heading')}\n===",
        lambda: f"{plant.at('paragraph')}",
        lambda: f"- {plant.at('list')}\n  - {plant.at('nested list')}",
        lambda: f"> {plant.at('quote')}",
        lambda: f"| a | b |\n| --- | --- |\n| {plant.at('table')} | x |",
        lambda: f"```\n{plant.at('code')}\n```",
        lambda: f"---\n\n{plant.at('between rules')}\n\n---",
        lambda: (
            f"<details><summary>{plant.at('summary')}</summary>\n\n{plant.at('details')}\n</details>"
        ),
        lambda: f"Text[^1].\n\n[^1]: {plant.at('footnote')}",
        lambda: f"![{plant.at('alternative text')}](data:image/png;base64,{'iVBORw0KGgo' * 40})",
        lambda: f"[{plant.at('link')}](https://example.org)",
    ]
    front = plant.chance.choice(["", "---\ntags: [a, b]\n# note\n---\n", "---\n"])
    return (front + "\n\n".join(_some(plant, parts)) + "\n").encode(encoding)


def _html(plant: Plant, encoding: str) -> bytes:
    parts: list[Callable[[], str]] = [
        lambda: f"<h2>{plant.at('heading')}</h2>",
        lambda: f"<p>{plant.at('paragraph')}</p>",
        lambda: f"<ul><li>{plant.at('list')}</li></ul>",
        lambda: f"<table><tr><th>a</th></tr><tr><td>{plant.at('table')}</td></tr></table>",
        lambda: f"<aside>{plant.at('aside among the text')}</aside>",
        lambda: (
            f"<section><p>{plant.at('section')}</p>"
            f"<footer>{plant.at('section footer')}</footer></section>"
        ),
        lambda: f"<dl><dt>a</dt><dd>{plant.at('definition')}</dd></dl>",
        lambda: f"<details><summary>x</summary>{plant.at('details')}</details>",
        lambda: f"<figure><img src='a.png'><figcaption>{plant.at('caption')}</figcaption></figure>",
        lambda: f"<blockquote>{plant.at('quote')}</blockquote>",
        lambda: f"<div><div><span>{plant.at('span')}</span></div></div>",
        lambda: f"<pre>{plant.at('preformatted')}</pre>",
        lambda: f"<form><label>{plant.at('label')}</label> <button>Send</button></form>",
        lambda: f"<select><option>{plant.at('option')}</option></select>",
        lambda: f"<dialog>{plant.at('dialog')}</dialog>",
        lambda: f"<table><caption>{plant.at('table caption')}</caption><tr><td>x</table>",
        lambda: f"<div><header><h3>{plant.at('header')}</h3></header></div>",
    ]
    inner = "\n".join(_some(plant, parts))
    bodies: list[Callable[[], str]] = [
        lambda: f"<main>{inner}</main>",
        lambda: f"<article>{inner}</article>",
        lambda: inner,
        lambda: f"<div class=side><article>teaser</article></div>{inner}",
        lambda: f"<form><header><a href=/>Home</a></header>{inner}</form>",
        lambda: f"<header><h1>{plant.at('page header')}</h1></header>{inner}",
    ]
    body = plant.chance.choice(bodies)()
    label = {"shift_jis": "shift_jis", "euc_kr": "ks_c_5601-1987", "cp1252": "iso-8859-1"}
    charset = label.get(encoding, encoding.replace("_", "-").replace("iso8859", "iso-8859"))
    head = f"<meta charset='{charset}'>" if "-sig" not in encoding and encoding != "utf-16" else ""
    head = f"<!doctype html><html><head>{head}<title>t</title></head>"
    around = f"<body><nav>menu</nav>{body}<footer>all rights reserved</footer></body></html>"
    return (head + around).encode(encoding)


def _csv(plant: Plant, encoding: str) -> bytes:
    delimiter = plant.chance.choice([",", ";", "\t", "|"])
    rows = [["id", "note", "text"]]
    for number in range(plant.chance.randint(2, 20)):
        quoted = f'"{plant.at("quoted cell")}, a; b"'
        rows.append([str(number), quoted, plant.at("cell")])
    first = plant.chance.choice(["", f"sep={delimiter}\r\n"])
    return (first + "\r\n".join(map(delimiter.join, rows))).encode(encoding)


def _mail(plant: Plant, encoding: str) -> bytes:
    charset = "utf-8" if encoding in ("utf-16", "utf-8-sig", "ascii") else encoding
    message = EmailMessage(policy=SMTP)
    message["Subject"] = plant.at("subject")
    message["From"], message["To"] = "Ada <a@example.org>", "b@example.org"
    kind = plant.chance.choice(["plain", "html", "alternative", "attached", "forwarded"])
    if kind == "html":
        message.set_content(
            f"<style>p {{color: red}}</style><p>{plant.at('html body')}</p>",
            subtype="html",
            charset=charset,
        )
        return message.as_bytes()
    body = plant.at("plain body")
    message.set_content(body, charset=charset)
    if kind == "alternative":
        html = plant.chance.choice([body, "This program cannot show it."])
        message.add_alternative(f"<p>{html}</p>", subtype="html", charset=charset)
    if kind == "attached":
        name = plant.chance.choice(["note.txt", "items.csv", "page.html", "plan.docx"])
        content = WRITERS[f".{name.partition('.')[2]}"](plant, encoding)
        message.add_attachment(
            content, maintype="application", subtype="octet-stream", filename=name
        )
    if kind == "forwarded":
        other = EmailMessage(policy=SMTP)
        other["Subject"] = "earlier"
        other.set_content(plant.at("forwarded mail"), charset=charset)
        message.make_mixed()
        message.attach(MIMEMessage(other))
    return message.as_bytes()


def _word(plant: Plant, _encoding: str) -> bytes:
    import docx  # noqa: PLC0415

    document = docx.Document()
    section = document.sections[0]
    table = ["list", "table", "header", "footer", "heading", "link", "nested"]
    document.add_paragraph(plant.at("paragraph"))
    for kind in plant.chance.sample(table, plant.chance.randint(1, len(table))):
        if kind == "list":
            document.add_paragraph(plant.at("list"), style="List Bullet")
        elif kind == "table":
            document.add_table(1, 2).cell(0, 1).text = plant.at("table")
        elif kind == "nested":
            cell = document.add_table(1, 1).cell(0, 0)
            cell.add_table(1, 1).cell(0, 0).text = plant.at("nested table")
        elif kind == "header":
            section.header.paragraphs[0].text = plant.at("header")
        elif kind == "footer":
            section.footer.paragraphs[0].text = plant.at("footer")
        elif kind == "heading":
            document.add_heading(plant.at("heading"), level=plant.chance.randint(1, 4))
        else:
            run = document.add_paragraph("See ").add_run(plant.at("bold run"))
            run.bold = True
    return _saved(document)


def _slides(plant: Plant, _encoding: str) -> bytes:
    import pptx  # noqa: PLC0415
    from pptx.util import Inches  # noqa: PLC0415

    presentation = pptx.Presentation()
    box = Inches(1), Inches(2), Inches(6), Inches(1)
    for _ in range(plant.chance.randint(1, 3)):
        slide = presentation.slides.add_slide(presentation.slide_layouts[5])
        slide.shapes.title.text = plant.at("title")
        slide.shapes.add_textbox(*box).text_frame.text = plant.at("text box")
        if plant.chance.random() < 0.5:
            cell = slide.shapes.add_table(1, 2, *box).table.cell(0, 1)
            cell.text = plant.at("table")
        if plant.chance.random() < 0.5:
            group = slide.shapes.add_group_shape()
            group.shapes.add_textbox(*box).text_frame.text = plant.at("grouped shape")
        if plant.chance.random() < 0.5:
            slide.notes_slide.notes_text_frame.text = plant.at("notes")
    return _saved(presentation)


def _sheets(plant: Plant, _encoding: str) -> bytes:
    import openpyxl  # noqa: PLC0415
    from openpyxl.comments import Comment  # noqa: PLC0415

    workbook = openpyxl.Workbook()
    for number in range(plant.chance.randint(1, 3)):
        sheet = workbook.create_sheet(f"Sheet {number}")
        sheet.append(["id", "text"])
        sheet.append([number, plant.at("cell")])
        sheet.cell(plant.chance.randint(5, 40), plant.chance.randint(3, 12)).value = plant.at(
            "cell far away"
        )
        if plant.chance.random() < 0.3:
            sheet["A2"].comment = Comment(plant.at("comment"), "Ada")
        if plant.chance.random() < 0.3:
            sheet.merge_cells("A3:B3")
            sheet["A3"] = plant.at("merged cell")
    return _saved(workbook)


def _pdf(plant: Plant, _encoding: str) -> bytes:
    from reportlab.pdfgen.canvas import Canvas  # noqa: PLC0415

    plant.sentence = "The harbour master keeps the spare keys"  # the built-in fonts are Latin
    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=True)
    for number in range(plant.chance.randint(1, 4)):
        canvas.setFont("Helvetica", 11)
        canvas.drawString(72, 760, plant.at(f"page {number + 1}"))
        if plant.chance.random() < 0.4:
            canvas.acroForm.textfield(name=f"f{number}", value=plant.at("form field"), x=72, y=600)
        if plant.chance.random() < 0.4:
            canvas.textAnnotation(plant.at("annotation"), Rect=[72, 500, 90, 520])
        if plant.chance.random() < 0.4:
            for line in range(8):
                canvas.drawString(72, 440 - 20 * line, plant.at("left column"))
                canvas.drawString(330, 440 - 20 * line, "A right column of other words.")
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def _epub(plant: Plant, _encoding: str) -> bytes:
    chapters = [plant.at("chapter heading") for _ in range(plant.chance.randint(1, 3))]
    members = epub_members(chapters=chapters)
    tag = plant.chance.choice(["header", "form", "aside", "section", "footer"])
    planted = f"<body><{tag}><p>{plant.at(f'in {tag}')}</p></{tag}>"
    return zip_bytes(members | {"c0.xhtml": members["c0.xhtml"].replace("<body>", planted)})


def _notebook(plant: Plant, _encoding: str) -> bytes:
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": [plant.at("Markdown cell")]},
        {
            "cell_type": "code",
            "execution_count": 1,
            "metadata": {},
            "source": f"x = '{plant.at('code cell')}'",
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": [plant.at("output")]},
            ],
        },
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def _lines(plant: Plant, _encoding: str) -> bytes:
    rows = [{"id": n, "text": plant.at("JSON line")} for n in range(plant.chance.randint(1, 9))]
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


def _saved(document: object) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)  # type: ignore[attr-defined]
    return buffer.getvalue()


WRITERS: dict[str, Callable[[Plant, str], bytes]] = {
    ".txt": _text,
    "-README": _text,
    ".log": _text,
    ".rst": _text,
    ".md": _markdown,
    ".html": _html,
    ".csv": _csv,
    ".eml": _mail,
    ".docx": _word,
    ".pptx": _slides,
    ".xlsx": _sheets,
    ".pdf": _pdf,
    ".epub": _epub,
    ".ipynb": _notebook,
    ".jsonl": _lines,
}
