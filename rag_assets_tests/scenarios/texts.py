"""Documents with text that differs everywhere, so that every chunk is its own."""

import random

SYLLABLES = ("ba", "lor", "mi", "ten", "qua", "sig", "no", "ver", "dul", "ka", "fes", "pro")


def paragraph(seed: object, words: int = 45) -> str:
    """Return one paragraph; equal seeds give equal paragraphs."""
    source = random.Random(str(seed))
    chosen = ["".join(source.choices(SYLLABLES, k=source.randint(1, 4))) for _ in range(words)]
    return " ".join(chosen).capitalize() + "."


def document(name: str, sections: int = 4) -> str:
    """Return Markdown with one paragraph under each heading."""
    parts = [f"# Report {name}"]
    for number in range(sections):
        parts += [f"## Section {number} of {name}", paragraph((name, number))]
    return "\n\n".join(parts) + "\n"
