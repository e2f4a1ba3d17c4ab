"""KuaiRand (Kuaishou, 2022): the standard log with all feedback signals, users and videos joined to it.

The file video_features_statistic is never read: its counts are taken over the whole period, so they contain the
labels. What a user did after the impression (play time, stay times) makes labels and is no input.

``@unbiased`` trains and validates on the rows of ``@time`` and tests on the random-exposure log after that time: videos
that were shown at random, not because a recommender chose them.

``@last14days`` is the part of KuaiRand-Pure's log that the reference results are measured on: every row of its last
fourteen days, in one order whatever the order in the files. ``@history`` has the same rows and, as sequences, the last
fifty videos that each user was shown before them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import DataError
from datasets_registry.base import UNDEFINED, Chunk, Dataset, Feature, register_dataset
from datasets_registry.schema import Task

if TYPE_CHECKING:
    import pyarrow as pa

    from datasets_registry.encoding.delimited import Layout
    from datasets_registry.encoding.kuairand_history import Histories
    from datasets_registry.encoding.side import SideTable

TASKS = {
    "click": "clicked",
    "long_view": "watched long",
    "complete": "watched to the end (play time at least the video's length; undefined where no length is known)",
    "comment_read": "read the comments (stayed there for more than 0 ms)",
    "profile_enter": "entered the author's profile",
    "like": "liked",
    "follow": "followed the author",
    "comment": "commented",
    "forward": "forwarded",
    "hate": "disliked",
}
COMMON = ("click", "long_view", "complete", "comment_read", "profile_enter", "like")  # positives enough in every part
FLAGS = {
    "click": "is_click",
    "long_view": "long_view",
    "profile_enter": "is_profile_enter",
    "like": "is_like",
    "follow": "is_follow",
    "comment": "is_comment",
    "forward": "is_forward",
    "hate": "is_hate",
}
LOG = (
    "user_id video_id date hourmin time_ms is_click is_like is_follow is_comment is_forward is_hate long_view "
    "play_time_ms duration_ms profile_stay_time comment_stay_time is_profile_enter is_rand tab"
).split()
USER_TEXT = (
    "user_active_degree is_lowactive_period is_live_streamer is_video_author follow_user_num_range "
    "fans_user_num_range friend_user_num_range register_days_range"
).split() + [f"onehot_feat{i}" for i in range(18)]
USER_NUMBERS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
VIDEO_TEXT = ("author_id", "video_type", "upload_type", "visible_status", "music_id", "music_type")
RAGGED = 10  # rows of a log that may be broken: one of KuaiRand-1K's is, by the word of a third party
TAGS = 4  # kept per video; the data has at most a few
LAST14DAYS = 20220425  # the first of them; the logs end on 2022-05-08
LAST14DAYS_ROWS = {"pure": 228_329}
HISTORY = ("exposed", "watched", "liked")
HISTORY_LENGTH = 50


@dataclasses.dataclass(frozen=True)
class KuaiRand(Dataset):
    """``suffix`` is the collection's: "pure" or "1k".

    With ``first_day`` (yyyymmdd) rows before that date are left out and the others sorted by time, then by all other
    columns, so that copies of the log in different orders are the same data.
    """

    suffix: str = "pure"
    random_rows: int | None = None
    first_day: int | None = None
    history: bool = False

    def vary(self, word: str) -> Dataset | None:
        if word in ("last14days", "history"):
            rows = LAST14DAYS_ROWS.get(self.suffix)
            last = dataclasses.replace(self, first_day=LAST14DAYS, complete_rows=rows)
            if word == "last14days":
                return last
            steps = (Feature(name, "sequence", length=HISTORY_LENGTH, shares="video_id") for name in HISTORY)
            return dataclasses.replace(last, history=True, features=(*self.features, *steps))
        if word != "unbiased":
            return None
        rows = self.complete_rows + self.random_rows if self.complete_rows and self.random_rows else None
        return dataclasses.replace(self, split="unbiased", needs=("random",), complete_rows=rows)

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        import numpy as np
        import pyarrow as pa

        from datasets_registry.encoding import delimited
        from datasets_registry.encoding.side import SideTable
        from datasets_registry.encoding.vocabulary import to_arrow, to_numpy

        users = SideTable.read(files["users"], "user_id", user_layout())
        videos = SideTable.read(files["videos"], "video_id", video_layout())
        for line, column, problem in _bad_tags(videos):
            raise DataError(f"{files['videos']}, line {line}, column {column}: {problem}")
        tags = [[] if tag is None else [int(t) for t in tag.split(",")] for tag in videos.column("tag").to_pylist()]
        video_tags = pa.array(tags, pa.list_(pa.int64()))
        standard = [files[key] for key in sorted(files) if key.startswith("log")]
        skipped: list[str] = []
        histories = self._histories(files, standard) if self.history else None
        for part, paths in ((0, standard), (2, [files[key] for key in self.needs])):
            rows = (
                batch
                for path in paths
                for batch in delimited.read(path, log_layout(), chunk_rows, row_bytes=80, skipped=skipped)
            )
            for batch in rows if self.first_day is None else _since(self.first_day, rows, chunk_rows):
                user, video = users.rows(batch["user_id"]), videos.rows(batch["video_id"])
                duration = to_numpy(batch["duration_ms"])
                yield Chunk(
                    features={
                        "user_id": batch["user_id"],
                        "video_id": batch["video_id"],
                        "tab": batch["tab"],
                        "hour": to_arrow(to_numpy(batch["hourmin"]) // 100),
                        "duration_ms": np.where(duration > 0, duration, np.nan),
                        **{name: users.column(name).take(user) for name in (*USER_TEXT, *USER_NUMBERS)},
                        **{name: videos.column(name).take(video) for name in VIDEO_TEXT},
                        "tag": video_tags.take(video),
                        **(histories.look_up(batch["user_id"]) if histories else {}),
                    },
                    labels=_labels(batch),
                    part=part,
                    notes=tuple(skipped),
                    keys={
                        "time": to_numpy(batch["time_ms"]),
                        "day": to_numpy(batch["date"]),
                        "group": to_numpy(batch["user_id"]),
                    },
                )

    def _histories(self, files: Mapping[str, Path], logs: list[Path]) -> Histories:
        """What the users saw before the rows at hand, from the prepared file or from the log itself."""
        from datasets_registry.encoding import delimited
        from datasets_registry.encoding.kuairand_history import Histories

        if "history" in files:
            return Histories.of_file(files["history"])
        batches = (batch for path in logs for batch in delimited.read(path, log_layout(), 1 << 18, row_bytes=80))
        return Histories.of_log(LAST14DAYS, batches)

    def configuration(self) -> str:
        since = "" if self.first_day is None else f"since {self.first_day}, sorted"
        return f"{since}, with the history before" if self.history else since

    def recognises(self, directory: Path) -> Mapping[str, Path] | None:
        """Also takes a part of the logs (any log_standard_*), which the encoder then notes as incomplete."""
        folders = [
            directory,
            *(path for path in sorted(directory.glob("*")) if path.is_dir()),
            *directory.glob("*/data"),
        ]
        for folder in folders:
            logs = _either(folder, f"log_standard_*_{self.suffix}.csv")
            sides = {
                key: found[0]
                for key, name in (("users", "user_features"), ("videos", "video_features_basic"))
                if (found := _either(folder, f"{name}_{self.suffix}.csv"))
            }
            exposed = _either(folder, f"log_random_*_{self.suffix}.csv")
            if logs and len(sides) == 2 and (exposed or not self.needs):
                extra = {"random": exposed[0]} if self.needs else {}
                if self.history and (before := _either(folder, "history_before_4_25.tail50.csv")):
                    extra["history"] = before[0]
                return {f"log{i}": path for i, path in enumerate(logs)} | sides | extra
        return None

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        from datasets_registry.encoding import delimited, kuairand_history

        layouts = {"users": user_layout, "videos": video_layout, "history": kuairand_history.layout}
        found = None
        for found in delimited.check(path, layouts.get(key, log_layout)()):
            yield found
        if key == "videos" and found is None:  # else there is no table to look into
            from datasets_registry.encoding.side import SideTable

            yield from _bad_tags(SideTable.read(path, "video_id", video_layout()))


def _either(folder: Path, pattern: str) -> list[Path]:
    """Files of that name, each once: the plain one where a compressed one lies beside it."""
    plain = {path.name: path for path in folder.glob(pattern)}
    zipped = {path.name.removesuffix(".gz"): path for path in folder.glob(pattern + ".gz")}
    return [path for _, path in sorted((zipped | plain).items())]


def _bad_tags(videos: SideTable) -> Iterator[tuple[int, str, str]]:
    """(line, column, problem) of videos whose tags are no whole numbers with commas between them."""
    for place, tags in enumerate(videos.column("tag").to_pylist()):
        if tags is not None and not re.fullmatch(r" *\d{1,18} *(, *\d{1,18} *)*", tags, re.ASCII):
            yield place + 2, "tag", f"{tags!r:.60} is no list of whole numbers"


def _since(day: int, batches: Iterator[pa.RecordBatch], chunk_rows: int) -> Iterator[pa.RecordBatch]:
    """The rows from that day on, sorted by time and then by every other column; they are held in memory."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kept = [batch.filter(pc.greater_equal(batch["date"], day)) for batch in batches]
    if not kept:
        return
    rows = pa.Table.from_batches(kept)
    names = ["time_ms", *(name for name in rows.column_names if name != "time_ms")]
    yield from rows.sort_by([(name, "ascending") for name in names]).to_batches(max_chunksize=chunk_rows)


def _labels(batch: Any) -> dict[str, Any]:
    """Labels of a log's rows, by task."""
    import numpy as np

    from datasets_registry.encoding import delimited
    from datasets_registry.encoding.vocabulary import to_numpy

    length, played = to_numpy(batch["duration_ms"]), to_numpy(batch["play_time_ms"])
    labels = {task: delimited.indicator(batch[column]) for task, column in FLAGS.items()}
    labels["complete"] = np.where(length > 0, played >= length, UNDEFINED).astype(np.uint8)
    labels["comment_read"] = (to_numpy(batch["comment_stay_time"]) > 0).astype(np.uint8)
    return labels


def log_layout() -> Layout:
    """Columns of the logs."""
    from datasets_registry.encoding.delimited import Column, Layout

    highest = dict.fromkeys(FLAGS.values(), 1) | {"hourmin": 2359}
    return Layout(
        tuple(
            Column(name, "skip")
            if name in ("profile_stay_time", "is_rand")
            else Column(name, "integer", low=0, high=highest.get(name))
            for name in LOG
        ),
        header=True,
        ragged=RAGGED,
    )


def user_layout() -> Layout:
    """Columns of the user table: ranges and one-hot codes as text, counts as numbers."""
    from datasets_registry.encoding.delimited import Column, Layout

    return Layout(
        (
            Column("user_id", "integer", low=0),
            *(Column(name, empty=True) for name in USER_TEXT),
            *(Column(name, "number", empty=True) for name in USER_NUMBERS),
        ),
        header=True,
        quoted=True,
        nulls=("", "UNKNOWN"),
    )


def video_layout() -> Layout:
    """Columns of the basic video table."""
    from datasets_registry.encoding.delimited import Column, Layout

    skipped = ("upload_dt", "video_duration", "server_width", "server_height")
    return Layout(
        (
            Column("video_id", "integer", low=0),
            *(Column(name, empty=True) for name in (*VIDEO_TEXT, "tag")),
            *(Column(name, "skip") for name in skipped),
        ),
        header=True,
        quoted=True,
        nulls=("",),
    )


def _entry(suffix: str, title: str, size: str, complete_rows: int, random_rows: int | None = None) -> KuaiRand:
    return KuaiRand(
        name=f"kuairand_{suffix}",
        title=title,
        tasks=tuple(Task(task, text) for task, text in TASKS.items()),
        old_tasks=("click", "comment_read"),
        new_tasks=("complete",),
        chain=("complete", "profile_enter", "like"),
        candidates=COMMON,
        # counted in 229,000 rows of KuaiRand-Pure: every complete view is long, 99.6 % of the long ones are clicked;
        # of the comment readers 97 %, 93 % of the profile visitors and 82 % of the likers clicked
        funnel=("click", "long_view", "complete"),
        features=(
            *(Feature(name) for name in ("user_id", "video_id", "tab", "hour")),
            *(Feature(name) for name in USER_TEXT),
            *(Feature(name) for name in VIDEO_TEXT),
            Feature("tag", length=TAGS),
            Feature("duration_ms", "numeric", log=True),
            *(Feature(name, "numeric", log=True) for name in USER_NUMBERS),
        ),
        licence="CC BY-SA 4.0",
        citation=(
            "Gao et al., KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly Exposed Videos, "
            "CIKM 2022, doi 10.1145/3511808.3557624"
        ),
        home_page="https://kuairand.com",
        size=size,
        manifest=f"kuairand_{suffix}",
        split="time",
        splits=("time", "random"),
        variants={
            "unbiased": "trains and validates on the rows of @time and tests on the random-exposure log after them, "
            "whose videos no recommender chose (needs log_random_*)",
            "last14days": "the standard log from 2022-04-25 to 2022-05-08, sorted by time: the same data from the "
            "official archive and from any copy of these rows, whatever their order there",
            "history": "the rows of @last14days and, as sequences, the last 50 videos that users were shown before: "
            "all (exposed), those watched long (watched) and those liked (liked); made from the official log, or read "
            "from a prepared file in which 1.5 % of the events have a label that is not certain (the same video shown "
            "twice), and a few more in users with over 50 exposures",
        },
        complete_rows=complete_rows,
        random_rows=random_rows,
        suffix=suffix,
        defects=(
            "video_features_statistic counts over the whole period and so contains the labels; it is not read.",
            "About 2 % of the log rows repeat an earlier row in full; they are kept. With @random 4.0 % of the test "
            "rows of the part at hand have an exact copy in train; @time, the default, keeps equal times together.",
            "long_view is nearly click (correlation 0.75, and of the rows without a click 0.2 % are long views): as "
            "old tasks the two are almost one, so click and comment_read are the default.",
            "complete depends on the video's length, which is an input.",
            "Of KuaiRand-Pure's last 14 days, train ends on 2022-05-05 at 20:53, validation on 2022-05-07 at 14:45 "
            "and the test rows on 2022-05-08 (China time).",
            "date, hourmin and time_ms disagree on the hour in a sixth of the rows; time_ms orders the split.",
            "follow, comment, forward and hate have about 0.1 % positives: expect wide intervals.",
        ),
    )


register_dataset(_entry("pure", "KuaiRand-Pure", "1,436,609 rows, 27,285 users, 7,583 videos", 1_436_609, 1_186_059))
register_dataset(_entry("1k", "KuaiRand-1K", "11,713,045 rows, 1,000 users, 4,371,868 videos", 11_713_045))
