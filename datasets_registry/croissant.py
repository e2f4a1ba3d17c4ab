"""What a dataset provides, in the vocabulary of Croissant (MLCommons, version 1.0), as JSON-LD.

Describes the raw files with their sources, and one record set per split of the encoded arrays where they are at hand,
as `export.parquet` writes them. Nothing is read but the declaration, the manifest and, if there, the arrays' meta.json.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets_registry.base import Dataset
    from datasets_registry.encoding.store import EncodedDataset

CONFORMS = "http://mlcommons.org/croissant/1.0"
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
FORMATS = {".parquet": "application/x-parquet", ".csv": "text/csv", ".tsv": "text/tab-separated-values"}


def describe(dataset: Dataset, data: EncodedDataset | None = None) -> dict[str, Any]:
    """The description; with the arrays ``data`` also their splits, columns and hashes of the exported files."""
    description = " ".join(filter(None, (dataset.title + ".", dataset.size + ".", dataset.notes)))
    if dataset.toy:
        description += f" A toy: {dataset.toy}."
    card: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS,
        "name": dataset.name.replace("@", "_"),
        "description": description,
        "license": dataset.licence,
        "citeAs": dataset.citation,
        "url": dataset.home_page or "https://mlcommons.org/croissant",
        "version": "1.0.0",
    }
    if dataset.defects:
        card["rai:dataLimitations"] = list(dataset.defects)
    card["distribution"] = _raw(dataset)
    if data is not None:
        card["version"] = f"1.0.0+{data.fingerprint[:12]}"
        card["distribution"] += [_exported(data, which) for which in ("train", "valid", "test")]
        card["recordSet"] = [_records(data, which) for which in ("train", "valid", "test")]
    return card


def _raw(dataset: Dataset) -> list[dict[str, Any]]:
    """The raw files, each with the first address that a manifest gives for it."""
    if dataset.manifest is None:
        return []
    from pathlib import PurePosixPath

    from datasets_registry.raw.manifest import load_manifest

    manifest = load_manifest(dataset.manifest)
    found = []
    for key, raw in manifest.files.items():
        urls = [mirror["urls"][key] for mirror in manifest.mirrors if key in mirror.get("urls", {})]
        urls += [mirror["url"] for mirror in manifest.mirrors if "url" in mirror]
        entry = {
            "@type": "cr:FileObject",
            "@id": f"raw/{key}",
            "name": raw.names[0].rpartition("/")[2],
            "description": f"raw file {raw.names[0]}" + (", optional" if raw.optional else ""),
            "contentUrl": (urls or [manifest.page])[0],
            "encodingFormat": FORMATS.get(PurePosixPath(raw.names[0]).suffix, "text/plain"),
            # Croissant wants a checksum of every file; where nobody publishes one, this says so
            "sha256": raw.sha256 or "unknown",
        }
        if raw.bytes:
            entry["contentSize"] = f"{raw.bytes} B"
        found.append(entry)
    return found


def _exported(data: EncodedDataset, which: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": f"encoded/{which}",
        "name": f"{which}.parquet",
        "description": f"the {which} split as 'run_all.py export {data.name}' writes it",
        "contentUrl": f"{which}.parquet",
        "encodingFormat": FORMATS[".parquet"],
        "sha256": "unknown",
    }


def _records(data: EncodedDataset, which: str) -> dict[str, Any]:
    """The columns of one split."""
    fields = []

    def add(name: str, kind: str, text: str, repeated: bool = False) -> None:
        source = {"fileObject": {"@id": f"encoded/{which}"}, "extract": {"column": name}}
        field = {"@type": "cr:Field", "@id": f"{which}/{name}", "name": name, "description": text, "dataType": kind}
        fields.append(field | {"source": source} | ({"repeated": True} if repeated else {}))

    for entry in data.meta["categorical"]:
        text = f"categorical input, codes 0 to {entry['size'] - 1}, the first {entry['reserved']} reserved"
        add(entry["name"], "sc:Integer", text, entry["length"] > 1)
    for entry in data.meta["numeric"]:
        add(entry["name"], "sc:Float", "numeric input, scaled")
    for task in data.tasks.values():
        kind = "sc:Float" if task.kind == "regression" or task.partial else "sc:Integer"
        add(f"label.{task.name}", kind, f"label: {task.title or task.name}; missing where it is not defined")
    return {
        "@type": "cr:RecordSet",
        "@id": which,
        "name": which,
        "description": f"{data.rows(which):,} rows",
        "field": fields,
    }
