"""HQL: every query of installed clients is understood, and answered as a real server answers."""

from __future__ import annotations

from typing import Any

import omero
import omero.clients
import pytest
from client_queries import client_queries
from graph_world import World, make_world, named
from omero.rtypes import rint, rlist, rlong, rstring

from omero_stand_in.hql import HqlSyntaxError, parse, run

QUERIES = client_queries()


@pytest.fixture(scope="module")
def world() -> World:
    """Ada's project with a dataset of two images, the first with a tag; Bob's dataset without images."""
    world = make_world()
    project, dataset = named("Project", "p"), named("Dataset", "d")
    project.linkDataset(dataset)
    for name in ("first", "Second"):
        dataset.linkImage(named("Image", name))
    tag = omero.model.TagAnnotationI()
    tag.textValue = rstring("tag")
    dataset.copyImageLinks()[0].child.linkAnnotation(tag)
    world.save(world.ada, project)
    world.save(world.bob, named("Dataset", "bobs"))
    return world


def test_the_clients_queries_were_found() -> None:
    assert len(QUERIES) > 150


@pytest.mark.parametrize(("where", "text"), QUERIES, ids=[f"{n}-{where}" for n, (where, _) in enumerate(QUERIES)])
def test_a_query_of_an_installed_client_is_understood(where: str, text: str) -> None:
    parse(text)


@pytest.mark.parametrize("text", ["select from where", "", "select d from Dataset d where (d.id = 1"])
def test_what_is_no_query_is_refused(text: str) -> None:
    with pytest.raises(HqlSyntaxError):
        parse(text)


ANSWERS: list[tuple[str, list[Any]]] = [
    ("select count(i) from Image i", [(2,)]),
    ("select d.name from Dataset d order by d.name", [("bobs",), ("d",)]),
    ("select i.name from Dataset d join d.imageLinks l join l.child i order by lower(i.name)",
     [("first",), ("Second",)]),
    ("select d.name, count(l) from Dataset d left outer join d.imageLinks l group by d.name order by d.name",
     [("bobs", 0), ("d", 2)]),
    ("select d.name from Dataset d left join d.imageLinks l group by d.name having count(l) > 1", [("d",)]),
    ("select i.name from Image i where i.id in (select l.child.id from DatasetImageLink l) order by i.id",
     [("first",), ("Second",)]),
    ("select d.name from Dataset d where not exists (select l from DatasetImageLink l where l.parent = d.id)",
     [("bobs",)]),
    ("select l.child.name from DatasetImageLink l, ProjectDatasetLink k where l.parent = k.child order by l.child.id",
     [("first",), ("Second",)]),
    ("select d.name, (select count(id) from DatasetImageLink l where l.parent = d.id) from Dataset d order by d.id",
     [("d", 2), ("bobs", 0)]),
    ("select i.name from Image i left outer join i.annotationLinks l where l.id is null", [("Second",)]),
    ("select a.textValue from Annotation a where a.class = TagAnnotation", [("tag",)]),
    ("select a.textValue from Annotation a where a.class = LongAnnotation", []),
    ("select i.name from Image i where i.name like 's%' or i.name like 'f_rst'", [("first",)]),
    ("select case when i.name = 'first' then 1 else 0 end from Image i order by i.id", [(1,), (0,)]),
    ("select d.details.owner.omeName from Dataset d order by d.id", [("ada",), ("bob",)]),
    ("select upper(i.name) || '!' from Image i where i.id between 101 and 101", [("FIRST!",)]),
    ("select size(p.datasetLinks) from Project p", [(1,)]),
    ("select i.name as title, i.id as n from Image i order by title desc", [("first", 101), ("Second", 102)]),
    ("select d.name as n, count(l.id) as many from Dataset d left join d.imageLinks l group by d.name order by many",
     [("bobs", 0), ("d", 2)]),
    ("select mod(-7, 3), sign(-2), substr(d.name, 1, 1) from Dataset d where d.name = 'd'", [(-1, -1, "d")]),
    ("select min(i.id), max(i.id), sum(i.id) from Image i where i.id < 0", [(None, None, None)]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "rows"), ANSWERS, ids=[text[:60] for text, _ in ANSWERS])
def test_the_rows_of_a_query(world: World, text: str, rows: list[Any]) -> None:
    assert world.query(world.ada, text) == rows


def test_a_null_reference_in_the_path_takes_the_row_away(world: World) -> None:
    assert world.query(world.ada, "select i.format.value from Image i") == []
    assert world.query(world.ada, "select i.format.id from Image i") == [(None,), (None,)]


def test_a_fetching_join_loads_what_it_joins(world: World) -> None:
    with world.graph.transaction(world.ada) as tx:
        text = "select d from Dataset d join fetch d.imageLinks l join fetch l.child i where i.name = 'first'"
        result = run(tx, text, None)
        found = result.loader.map(result.rows[0][0])
    assert [link.child.name.val for link in found.copyImageLinks()] == ["first"]
    assert not found.isAnnotationLinksLoaded()


def test_a_join_repeats_its_row_and_a_fetching_one_does_not(world: World) -> None:
    text = "select d from Dataset d join {} d.imageLinks l"
    assert len(world.query(world.ada, text.format(""))) == 2
    assert len(world.query(world.ada, text.format("fetch"))) == 1


@pytest.mark.parametrize("text", [
    "select x from Nonsense x",
    "select d from Dataset d where d.nonsense = 1",
    "select x from Dataset d",
    "select l.child from DatasetImageLink l join fetch l.parent",
    "select d from Dataset d where d.class = Dataset",
    "select soundex(d.name) from Dataset d",
])  # fmt: skip
def test_what_cannot_be_resolved_is_a_query_exception(world: World, text: str) -> None:
    with pytest.raises(omero.QueryException) as raised:
        world.query(world.ada, text)
    assert raised.value.message.startswith(f"Illegal query:{text}")


@pytest.mark.parametrize("text", ["delete from Dataset", "update Dataset set name = 'x'"])
def test_writing_by_query_is_refused(world: World, text: str) -> None:
    with pytest.raises(omero.ApiUsageException) as raised:
        world.query(world.ada, text)
    assert "ome.model.containers.Dataset" in raised.value.message


def by(**values: Any) -> Any:
    parameters = omero.sys.ParametersI()
    for name, value in values.items():
        parameters.add(name, value)
    return parameters


def test_parameters_must_be_of_the_columns_type(world: World) -> None:
    text = "select d from Dataset d where d.id in (:v)"
    assert len(world.query(world.ada, text, by(v=rlist([rlong(101), rlong(99)])))) == 1
    with pytest.raises(omero.InternalException) as raised:
        world.query(world.ada, text, by(v=rlist([rint(1)])))
    assert "ClassCastException" in raised.value.message
    with pytest.raises(omero.ApiUsageException) as empty:
        world.query(world.ada, text, by(v=rlist([])))
    assert "where d.id in ()" in empty.value.message


def test_pages_of_a_query(world: World) -> None:
    text = "select i.id from Image i order by i.id"
    for offset, limit, rows in ((0, 1, [(101,)]), (1, 5, [(102,)]), (2, 1, []), (0, 0, []), (0, -1, [(101,), (102,)])):
        assert world.query(world.ada, text, omero.sys.ParametersI().page(offset, limit)) == rows
