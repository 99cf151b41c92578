"""Labels of files: missing ones are none whatever says so, arrays of one number are numbers, other types are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import small_jets, tiny
from test_layouts import landscape, landscape_frame, truth
from test_readers import write_parquet
from test_what_a_file_is import arrays_of, write_rntuple, write_tree

import pyrino as rino
from pyrino import JetEncoder, Jets, RinoError, RinoWarning, read_jets
from pyrino.outputs import embed_files

N = 12
JETS: Jets = small_jets(N, 3).with_labels(np.arange(N) % 2)
JETS = JETS.with_extra("part_charge", np.zeros(JETS.n_constituents))
ARRAYS = {name: array for name, array in arrays_of(JETS).items() if not name.startswith("label_")}
#: Numbers of which every third is missing, in a type for which a fill value would be a class.
SOME = ak.values_astype(ak.Array([0, 1, None] * 4), "uint8")
HERE = np.arange(N) % 3 != 2


def optional(path: Path) -> Path:
    return write_rntuple(path, ARRAYS | {"jet_label": SOME})


def test_labels_that_an_rntuple_says_are_missing_are_none(tmp_path):
    file = optional(tmp_path / "r.root")
    with pytest.raises(RinoError, match=r"r\.root: jet 2 has no jet_label \(null\)"):
        read_jets(file)
    with pytest.warns(RinoWarning, match="4 broken jets skipped"):
        jets = read_jets(file, on_error="skip")
    assert jets.labels.tolist() == [0, 1] * 4 and jets.origins.entry.tolist() == np.flatnonzero(HERE).tolist()
    assert len(read_jets(file, labelled=False)) == N


def test_one_hot_labels_may_be_missing_in_an_rntuple(tmp_path):
    hot = {"label_QCD": ak.Array([1, 0, None] * 4), "label_Tbqq": ak.Array([False, True, None] * 4)}
    with pytest.warns(RinoWarning, match="jet 2 has no label_QCD"):
        jets = read_jets(write_rntuple(tmp_path / "r.root", ARRAYS | hot), on_error="skip")
    assert jets.labels.tolist() == [0, 8] * 4


def test_missing_labels_are_passed_on_as_missing(tmp_path):
    file = optional(tmp_path / "r.root")
    embed_files(JetEncoder(tiny()), file, tmp_path / "e.parquet", progress=False)
    assert pq.read_table(tmp_path / "e.parquet")["label"].to_pylist() == [0, 1, None] * 4
    rino.pack(file, tmp_path / "p.arrow", progress=False)
    with pytest.raises(RinoError, match="jet 2"):
        read_jets(tmp_path / "p.arrow")


def test_columns_that_an_rntuple_says_are_missing_break_their_jets(tmp_path):
    file = write_rntuple(tmp_path / "r.root", ARRAYS | {"jet_n": SOME})
    with pytest.raises(RinoError, match=r"jet 2 has no jet_n \(null\): write a value for every jet"):
        read_jets(file, columns="jet_n")
    with pytest.warns(RinoWarning, match="4 broken jets"):
        assert read_jets(file, columns="jet_n", on_error="skip").values["jet_n"].tolist() == [0, 1] * 4


def parquet(path: Path, columns: dict[str, Any]) -> Path:
    kinds = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(column)), 1)
        if isinstance(column, np.ndarray) and column.ndim == 2
        else column.to_list()
        if isinstance(column, ak.Array)
        else column
        for name, column in columns.items()
    }
    return write_parquet(path, kinds)


WRITERS = {"tree": write_tree, "rntuple": write_rntuple, "parquet": parquet}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_labels_in_arrays_of_one_number_are_numbers(tmp_path, write):
    number = (np.arange(N) % 3)[:, None].astype(np.int32)
    assert read_jets(write(tmp_path / "number", ARRAYS | {"jet_label": number})).labels.tolist() == [0, 1, 2] * 4
    hot = {"label_QCD": (number != 1).astype(np.int32), "label_Tbqq": (number == 1).astype(np.float64)}
    assert read_jets(write(tmp_path / "hot", ARRAYS | hot)).labels.tolist() == [0, 8, 0] * 4


OTHERS = {
    "text": (ak.Array(["0", "1"] * 6), "0"),
    "lists": (ak.values_astype(ak.Array([[0], [1, 1]] * 6), "int32"), r"\[0\]"),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("name", ["jet_label", "label_QCD"])
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_labels_that_are_no_numbers_are_named_where_labels_are_wanted(tmp_path, write, name, kind):
    column, value = OTHERS[kind]
    file = write(tmp_path / "a", ARRAYS | {name: column})
    with pytest.raises(RinoError, match=f"a: jet 0 has {name} = {value}; .*leave labels out with labelled=False"):
        read_jets(file)
    assert len(read_jets(file, labelled=False)) == N
    with pytest.raises(RinoError, match=f"{name} .*must hold"):
        read_jets(file, columns=name, labelled=False)


# --- pandas' own types in tables of the landscape ---

FRAME = landscape_frame(truth(N))
SIGNAL = FRAME["is_signal_new"]


@pytest.mark.parametrize("searched", [None, ["is_signal_new"]])
@pytest.mark.parametrize("categories", [[0, 1], [1, 0], [1.0, 0.0]])
def test_categorical_labels_are_their_values(tmp_path, categories, searched):
    signal = pd.Categorical(SIGNAL, categories=categories)
    file = landscape(tmp_path / "a.h5", FRAME.assign(is_signal_new=signal), data_columns=searched)
    jets = read_jets(file, columns="is_signal_new")
    assert jets.labels.tolist() == SIGNAL.tolist() == jets.values["is_signal_new"].tolist()


def test_categorical_labels_that_are_missing_or_text_are_named(tmp_path):
    signal = pd.Categorical(SIGNAL.where(SIGNAL.index != SIGNAL.index[3]), categories=[1, 0])
    file = landscape(tmp_path / "a.h5", FRAME.assign(is_signal_new=signal))
    with pytest.raises(RinoError, match="jet 3 has is_signal_new = nan; it must be 0"):
        read_jets(file)
    signal = pd.Categorical(SIGNAL.map({0: "qcd", 1: "top"}))
    file = landscape(tmp_path / "b.h5", FRAME.assign(is_signal_new=signal))
    with pytest.raises(RinoError, match=r"jet 0 has is_signal_new = .*qcd.*; it must be 0"):
        read_jets(file)
    assert len(read_jets(file, labelled=False)) == N


def test_columns_of_dates_and_of_categories_of_text_hold_no_numbers(tmp_path):
    dates = pd.date_range("2020", periods=N)
    more = {"day": dates, "took": dates - dates[0], "kind": pd.Categorical(["a", "b", None] * 4)}
    more |= {"run": pd.Categorical([3, 7, 3] * 4), "flag": np.arange(N) % 2 == 0}
    file = landscape(tmp_path / "a.h5", FRAME.assign(**{k: pd.Series(v, FRAME.index) for k, v in more.items()}))
    for name, kind in (("day", "datetime64"), ("took", "timedelta64"), ("kind", r"\|S")):
        with pytest.raises(RinoError, match=f"{name} is of type {kind}.*; it must hold numbers"):
            read_jets(file, columns=name)
    values = read_jets(file, columns=["run", "flag"]).values
    assert values["run"].tolist() == [3, 7, 3] * 4 and values["flag"].tolist() == [1, 0] * 6
