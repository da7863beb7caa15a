from tests.container.engine import Engine
from tests.container.images import Built


def test_node(engine: Engine, node_image: Built) -> None:
    print(node_image, engine.in_image(node_image.tag, "biomeroworker", "--version"))


def test_attached(engine: Engine, attached_image: Built) -> None:
    print(attached_image, engine.in_image(attached_image.tag, "biomeroworker", "--version"))
