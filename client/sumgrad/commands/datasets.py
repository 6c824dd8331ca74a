"""`sumgrad datasets`: what a server keeps; uploading to it, and deleting."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .command import Command, add_address, connected

if TYPE_CHECKING:
    from sumgrad.resident import Dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The server, and what to do there."""
    add_address(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions", description="without one, all datasets are listed")
    upload = actions.add_parser("upload", help="upload a file")
    upload.add_argument("files", nargs="+", metavar="FILE", help="one .npz file, or Parquet files, or a folder of these")
    upload.add_argument("--name", default="", help="name of the dataset (default: its content's id)")
    upload.add_argument("--columns", help="only these columns, separated by commas")
    upload.add_argument("--replace", action="store_true", help="let the name stand for this dataset, if it stands for another one now")
    for name, text in (("show", "show the columns of a dataset"), ("delete", "forget a dataset")):
        actions.add_parser(name, help=text).add_argument("dataset", help="its name or id")


def run(options: argparse.Namespace) -> int:
    """Does it and prints what is there."""
    with connected(options) as service:
        if options.action == "delete":
            service.delete_dataset(options.dataset)
        elif options.action == "upload":
            columns = options.columns.split(",") if options.columns else None
            made = service.upload(options.files, options.name, columns=columns, replace=options.replace, timeout=float("inf"))
            _show([made], options)
        elif options.action == "show":
            _show_columns(service.dataset(options.dataset), options)
        else:
            _show(service.datasets(), options)
    return 0


def _show(datasets: Sequence[Dataset], options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps([_plain(dataset) for dataset in datasets], indent=2))
        return
    rows = [
        [each.name, f"{each.sample_count:,}", str(len(each.columns)), f"{each.nbytes:,}", f"{each.created:%Y-%m-%d %H:%M}", each.id[:12]]
        for each in datasets
    ]
    print_table(["name", "samples", "columns", "bytes", "stored (UTC)", "id"], rows)


def _show_columns(dataset: Dataset, options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(_plain(dataset), indent=2))
        return
    print(
        f"{dataset.name}: {dataset.sample_count:,} samples, {dataset.nbytes:,} bytes, stored {dataset.created:%Y-%m-%d %H:%M} UTC\nid {dataset.id}"
    )
    print_table(["column", "type", "shape"], [[name, str(column.dtype), str(column.shape)] for name, column in dataset.columns.items()])


def _plain(dataset: Dataset) -> dict[str, Any]:
    columns = {
        name: {"dtype": str(column.dtype), "shape": column.shape, "sha256": column.sha256} for name, column in dataset.columns.items()
    }
    return {
        "id": dataset.id,
        "name": dataset.name,
        "sample_count": dataset.sample_count,
        "nbytes": dataset.nbytes,
        "created": dataset.created.isoformat(),
        "columns": columns,
    }


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns of text, aligned; those of figures to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    figures = [bool(rows) and all(row[place].replace(",", "").isdecimal() for row in rows) for place in range(len(head))]
    for row in (head, *rows):
        cells = [cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(row, widths, figures, strict=True)]
        print("  ".join(cells).rstrip())


COMMAND = Command("datasets", "list, upload, show and delete the datasets of a server", run, add_arguments)
