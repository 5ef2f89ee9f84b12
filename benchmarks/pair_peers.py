"""The pair stage's work in pandas and in DuckDB: draw, judge, list the targets, write, count.

Both get the left edges of the objects for nothing, draw images with replacement and drop what repeats.
Neither draws again where images do not fit: they draw `_SURPLUS` times what they need at once.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from calico.core import tables

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_SURPLUS = 3.0
_SAME_SHARE = 0.25


@dataclass(frozen=True)
class Inputs:
    """Where tables, category pairs and left edges (object_id, left_px) are, and how many pairs to make."""

    unify_path: Path
    category_pairs_path: Path
    lefts_path: Path
    num_pairs_per_task: int
    max_targets: int


def pandas_tables(inputs: Inputs) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Read objects, parts and allowed pairs of categories."""
    images = pd.read_parquet(inputs.unify_path / "images.parquet", columns=["image_id", "source", "split"])
    objects = pd.read_parquet(
        inputs.unify_path / "objects.parquet", columns=["object_id", "image_id", "category"]
    )
    parts = pd.read_parquet(inputs.unify_path / "parts.parquet", columns=["part_id", "object_id", "category"])
    objects = objects.merge(images, on="image_id").merge(pd.read_parquet(inputs.lefts_path), on="object_id")
    objects["has_parts"] = objects.object_id.isin(parts.object_id)
    pairs = pd.read_csv(inputs.category_pairs_path)
    kept = pairs[pairs.keep == "yes"][["source", "category_a", "category_b"]]
    same = objects[["source", "category"]].drop_duplicates()
    same = pd.DataFrame({"source": same.source, "category_a": same.category, "category_b": same.category})
    swapped = kept.rename(columns={"category_a": "category_b", "category_b": "category_a"})
    return objects, parts, pd.concat([kept, swapped, same], ignore_index=True)


def pandas_pairs(inputs: Inputs, output_path: Path) -> int:
    """Make the pairs of the train split with merges; return how many."""
    objects, parts, allowed = pandas_tables(inputs)
    draws = _pandas_draws(inputs, objects[objects.split == "train"], allowed)
    samples = pandas_targets(draws, objects, parts, allowed)
    samples = samples[samples.targets.str.len() <= inputs.max_targets]
    quota = inputs.num_pairs_per_task // draws.source.nunique()
    samples = samples[samples.groupby(["source", "task"]).cumcount() < quota]
    samples.targets.str.len().groupby(samples.task).agg(["sum", "mean", "max", "median"])
    table = pa.Table.from_pandas(samples[tables.PAIRS.names], schema=tables.PAIRS, preserve_index=False)
    pq.write_table(table, output_path, compression="zstd", compression_level=1)
    return len(samples)


def _pandas_draws(inputs: Inputs, objects: pd.DataFrame, allowed: pd.DataFrame) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    found = []
    for task in ("common_objects", "common_parts", "unique_parts"):
        usable = objects if task == "common_objects" else objects[objects.has_parts]
        usable = usable.drop_duplicates(["image_id", "category"])
        for source, group in usable.groupby("source"):
            count = int(_SURPLUS * inputs.num_pairs_per_task / usable.source.nunique())
            first = group.sample(count, replace=True, random_state=rng)
            images_of = {name: rows.image_id.to_numpy() for name, rows in group.groupby("category")}
            partners = allowed[allowed.source == source].groupby("category_a").category_b.agg(set)
            second = first.category.to_numpy().copy()
            for category, rows in pd.Series(np.arange(count)).groupby(second.copy()):
                others = sorted((partners[category] - {category}) & images_of.keys())
                mixed = (
                    rows[rng.random(len(rows)) >= _SAME_SHARE] if others and task != "common_objects" else []
                )
                weights = np.array([len(images_of[name]) for name in others], dtype=float)
                if len(mixed):
                    second[mixed] = rng.choice(others, size=len(mixed), p=weights / weights.sum())
            b = np.empty(count, dtype=object)
            for category, rows in pd.Series(np.arange(count)).groupby(second):
                b[rows] = rng.choice(images_of[category], size=len(rows))
            found.append(
                pd.DataFrame({"task": task, "source": source, "a": first.image_id.to_numpy(), "b": b})
            )
    draws = pd.concat(found, ignore_index=True)
    low, high = np.where(draws.a < draws.b, draws.a, draws.b), np.where(draws.a < draws.b, draws.b, draws.a)
    is_new = (draws.a != draws.b) & ~pd.DataFrame({"task": draws.task, "l": low, "h": high}).duplicated()
    return draws[is_new].reset_index(drop=True)


def pandas_targets(
    draws: pd.DataFrame, objects: pd.DataFrame, parts: pd.DataFrame, allowed: pd.DataFrame
) -> pd.DataFrame:
    """Return the usable draws (task, source, a, b) with their targets, in the columns of the pair table."""
    draws = draws.assign(pair=np.arange(len(draws)))
    columns = ["pair", "image_index", "label", "object_id", "part_id"]
    listed = (_pandas_objects(draws, objects), _pandas_parts(draws, objects, parts, allowed))
    targets = pd.concat([found[columns] for found in listed])
    targets["target"] = targets[columns[1:]].to_dict("records")
    samples = draws.merge(targets.groupby("pair").target.agg(list).rename("targets"), on="pair")
    samples["image_ids"] = list(map(list, zip(samples.a, samples.b, strict=True)))
    local = [samples[side].str.partition("/")[2] for side in "ab"]
    samples["pair_id"] = samples.source + "/" + samples.task + "/" + local[0] + "-" + local[1]
    return samples


def _pandas_objects(draws: pd.DataFrame, objects: pd.DataFrame) -> pd.DataFrame:
    left, right = _pandas_sides(draws[draws.task == "common_objects"], objects)
    keys = ["pair", "category"]
    both = left[keys].drop_duplicates().merge(right[keys].drop_duplicates(), on=keys)
    shared = pd.concat([left, right]).merge(both, on=keys)
    shared["label"], shared["part_id"] = shared.category, None
    return shared.sort_values(["pair", "category", "image_index", "left_px", "object_id"])


def _pandas_sides(draws: pd.DataFrame, objects: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the objects of the first and of the second image of each draw."""
    slim = objects[["image_id", "object_id", "category", "left_px"]]
    return [
        draws[["pair", "task", "source", side]]
        .rename(columns={side: "image_id"})
        .merge(slim, on="image_id")
        .assign(image_index=index)
        for index, side in enumerate("ab")
    ]


def _pandas_parts(
    draws: pd.DataFrame, objects: pd.DataFrame, parts: pd.DataFrame, allowed: pd.DataFrame
) -> pd.DataFrame:
    a, b = _pandas_sides(draws[draws.task != "common_objects"], objects)
    compared = a.merge(b, on=["pair", "task", "source"], suffixes=("_a", "_b"))
    compared = compared.merge(allowed, on=["source", "category_a", "category_b"])
    compared = compared[~compared.duplicated("pair", keep=False)]
    has_parts = set(parts.object_id)
    compared = compared[compared.object_id_a.isin(has_parts) & compared.object_id_b.isin(has_parts)]
    listed = []
    for index, (own, other) in enumerate((("a", "b"), ("b", "a"))):
        columns = {f"object_id_{own}": "object_id", f"category_{own}": "kind", f"object_id_{other}": "other"}
        side = compared.rename(columns=columns)[["pair", "task", "object_id", "kind", "other"]]
        side = side.merge(parts.rename(columns={"category": "name"}), on="object_id")
        names = parts.rename(columns={"object_id": "other", "category": "name"})[["other", "name"]]
        side = side.merge(names.drop_duplicates(), on=["other", "name"], how="left", indicator=True)
        is_common = side["_merge"] == "both"
        listed.append(side[is_common == (side.task == "common_parts")].assign(image_index=index))
    named = pd.concat(listed)
    named["label"] = named.kind + "'s " + named["name"]
    is_common = named.task == "common_parts"
    by_name = named[is_common].sort_values(["pair", "name", "image_index"])
    return pd.concat([by_name, named[~is_common].sort_values(["pair", "image_index", "name"])])


def duckdb_pairs(inputs: Inputs, output_path: Path, *, num_threads: int) -> int:
    """Make the pairs of the train split in SQL; return how many."""
    import duckdb

    connection = duckdb.connect(config={"threads": num_threads})
    duckdb_tables(connection, inputs)
    num_draws = int(_SURPLUS * inputs.num_pairs_per_task / 3)
    connection.execute(_DRAWS.replace("$num_draws", str(num_draws)))
    duckdb_targets(connection)
    connection.execute(
        """CREATE TABLE final AS SELECT * EXCLUDE (place) FROM (SELECT *, row_number() OVER (
        PARTITION BY source, task) AS place FROM samples WHERE len(targets) <= $most) WHERE place <=
        $per_task // (SELECT count(DISTINCT source) FROM image)""",
        {"most": inputs.max_targets, "per_task": inputs.num_pairs_per_task},
    )
    connection.execute(
        "SELECT task, sum(len(targets)), avg(len(targets)), max(len(targets)), median(len(targets)) "
        "FROM final GROUP BY task"
    ).fetchall()
    connection.execute(
        f"COPY final TO '{output_path}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
    )
    return int(connection.execute("SELECT count(*) FROM final").fetchall()[0][0])


def duckdb_tables(connection: "DuckDBPyConnection", inputs: Inputs) -> None:
    """Read the inputs with integers for keys."""
    folder = inputs.unify_path
    connection.execute(f"""
        SELECT setseed(0.5);
        CREATE TABLE image AS SELECT image_id, source, split, row_number() OVER () AS i
            FROM '{folder}/images.parquet';
        CREATE TABLE object AS SELECT o.object_id, o.category, i.i, i.source, i.split, l.left_px,
            row_number() OVER () AS o FROM '{folder}/objects.parquet' o JOIN image i USING (image_id)
            JOIN '{inputs.lefts_path}' l USING (object_id);
        CREATE TABLE part AS SELECT o.o, p.category AS name, p.part_id, o.object_id,
            o.category || '''s ' || p.category AS label
            FROM '{folder}/parts.parquet' p JOIN object o USING (object_id);
        CREATE TABLE bare AS SELECT o FROM object WHERE o NOT IN (SELECT o FROM part);
        CREATE TABLE allowed AS
            WITH kept AS (SELECT source, category_a, category_b FROM read_csv('{inputs.category_pairs_path}')
                WHERE keep::VARCHAR IN ('yes', 'true'))
            SELECT source, category_a AS ca, category_b AS cb FROM kept
            UNION ALL SELECT source, category_b, category_a FROM kept
            UNION ALL SELECT DISTINCT source, category, category FROM object;
    """)


_DRAWS = """
    CREATE TABLE card AS
        SELECT *, row_number() OVER (PARTITION BY source, task) - 1 AS place,
            row_number() OVER (PARTITION BY source, task, category) - 1 AS own_place,
            count(*) OVER (PARTITION BY source, task) AS num,
            count(*) OVER (PARTITION BY source, task, category) AS num_own
            FROM (SELECT DISTINCT task, source, category, i FROM object,
            (SELECT unnest(['common_objects', 'common_parts', 'unique_parts']) AS task)
            WHERE split = 'train' AND (task = 'common_objects' OR o NOT IN (SELECT o FROM bare)));
    CREATE TABLE partner AS
        SELECT task, source, ca, cb, num_own, (sum(num_own) OVER w)::DOUBLE / sum(num_own) OVER v AS last,
            (sum(num_own) OVER w - num_own)::DOUBLE / sum(num_own) OVER v AS first
        FROM (SELECT DISTINCT task, source, category AS cb, num_own FROM card) JOIN allowed USING (source, cb)
        WHERE ca <> cb AND task <> 'common_objects'
        WINDOW v AS (PARTITION BY task, source, ca), w AS (PARTITION BY task, source, ca ORDER BY cb);
    CREATE TABLE start AS
        SELECT task, source, floor(random() * num)::BIGINT AS place, random() AS mix, random() AS at,
            random() AS pick FROM (SELECT DISTINCT task, source, num FROM card),
            range($num_draws);
    CREATE TABLE draw AS
        WITH first AS (SELECT s.*, c.category AS ca, c.i AS a FROM start s
            JOIN card c USING (task, source, place)),
        second AS (SELECT f.*, CASE WHEN f.mix < 0.25 OR p.cb IS NULL THEN f.ca ELSE p.cb END AS cb
            FROM first f ASOF LEFT JOIN partner p ON f.task = p.task AND f.source = p.source AND f.ca = p.ca
            AND f.at >= p.first),
        size AS (SELECT DISTINCT task, source, category AS cb, num_own FROM card),
        third AS (SELECT s.task, s.source, s.a, s.cb, floor(s.pick * z.num_own)::BIGINT AS own_place
            FROM second s JOIN size z USING (task, source, cb)),
        fourth AS (SELECT t.task, t.source, t.a, c.i AS b FROM third t JOIN card c ON t.task = c.task
            AND t.source = c.source AND t.cb = c.category AND t.own_place = c.own_place)
        SELECT task, source, any_value(a) AS a, any_value(b) AS b, row_number() OVER () AS pair FROM fourth
        WHERE a <> b GROUP BY task, source, least(a, b), greatest(a, b);
"""


def duckdb_targets(connection: "DuckDBPyConnection") -> None:
    """Turn the table `draw` (pair, task, source, a, b) into `samples`: the usable pairs with targets."""
    connection.execute("""
        CREATE TABLE side AS SELECT pair, 0 AS image_index, a AS own, b AS other FROM draw
            WHERE task = 'common_objects'
            UNION ALL SELECT pair, 1, b, a FROM draw WHERE task = 'common_objects';
        CREATE TABLE shows AS SELECT DISTINCT i, category FROM object;
        CREATE TABLE compared AS
            SELECT pair, any_value(d.task) AS task, any_value(x.o) AS oa, any_value(y.o) AS ob
            FROM draw d JOIN object x ON x.i = d.a JOIN object y ON y.i = d.b
            JOIN allowed k ON k.source = d.source AND k.ca = x.category AND k.cb = y.category
            WHERE d.task <> 'common_objects' GROUP BY pair HAVING count(*) = 1;
        DELETE FROM compared WHERE oa IN (SELECT o FROM bare) OR ob IN (SELECT o FROM bare);
        CREATE TABLE owner AS SELECT pair, task, 0 AS image_index, oa AS own, ob AS other FROM compared
            UNION ALL SELECT pair, task, 1, ob, oa FROM compared;
        CREATE TABLE target AS
            SELECT s.pair, s.image_index, o.category AS label, o.object_id, NULL AS part_id, o.category AS k1,
                s.image_index::VARCHAR AS k2, o.left_px AS k3
            FROM side s JOIN object o ON o.i = s.own
            SEMI JOIN shows h ON h.i = s.other AND h.category = o.category
            UNION ALL
            SELECT w.pair, w.image_index, p.label, p.object_id, p.part_id, p.name, w.image_index::VARCHAR, 0
            FROM owner w JOIN part p ON p.o = w.own SEMI JOIN part q ON q.o = w.other AND q.name = p.name
            WHERE w.task = 'common_parts'
            UNION ALL
            SELECT w.pair, w.image_index, p.label, p.object_id, p.part_id, w.image_index::VARCHAR, p.name, 0
            FROM owner w JOIN part p ON p.o = w.own ANTI JOIN part q ON q.o = w.other AND q.name = p.name
            WHERE w.task = 'unique_parts';
        CREATE TABLE samples AS
            SELECT d.source || '/' || d.task || '/' || split_part(x.image_id, '/', 2) || '-' ||
                split_part(y.image_id, '/', 2) AS pair_id, d.task, d.source,
                [x.image_id, y.image_id] AS image_ids, t.targets
            FROM (SELECT pair, list({'image_index': image_index, 'label': label, 'object_id': object_id,
                'part_id': part_id} ORDER BY k1, k2, k3, object_id) AS targets FROM target GROUP BY pair) t
            JOIN draw d USING (pair) JOIN image x ON x.i = d.a JOIN image y ON y.i = d.b;
    """)
