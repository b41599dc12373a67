"""Documents of other programs and times: OpenDocument, RTF, Office before 2007, EPUB."""
