"""Many pushes of small images through a proxy that breaks requests at random.

Each kind of fault on its own, with what is told and what is sent again: tests/integration/
push/test_broken.py.
"""

from __future__ import annotations

import random
from pathlib import Path

from images import layer, push, store
from images.entry import of_bytes
from images.errors import RegistryError
from images.image import Image, Layer
from images.progress import Progress
from images.push import Wishes
from images.reference import Repository
from images.registry import Registry
from images.retry import Policy
from images.store import Store
from tests.faults.conftest import times
from tests.integration.registries import Fault, Proxy, proxy, registry

QUICK = Policy(first=0.001, longest=0.01)
METHODS = ("HEAD", "POST", "PATCH", "PUT", "")
STATUSES = (408, 429, 500, 502, 503, 504)


def an_image(layout: Store, number: int, chance: random.Random) -> Image:
    """An image of a few small layers; some are those of images before it."""
    layers = []
    for title in range(chance.randint(1, 4)):
        seed = number if chance.random() < 0.5 else title
        content = random.Random(seed).randbytes(chance.choice([0, 10, 5000]) + title)
        with layout.new_file() as (out, commit):
            blob = layer.write([of_bytes(f"opt/{title}", content)], out, "gzip")
            commit(blob.digest)
        layers.append(Layer(f"layer {title}", blob))
    image = Image(f"i{number}", tuple(layers), {"N": str(number)}, {}, "2025-01-01T00:00:00Z")
    layout.save(image)
    return image


def a_fault(chance: random.Random) -> Fault:
    """Any of the proxy's, but those that wait for a time-out."""
    kind = chance.choice(["status", "torn", "kept", "deaf", "lost", "cut", "slow"])
    return Fault(
        kind,
        chance.choice(METHODS),
        after=chance.randrange(200),
        status=chance.choice(STATUSES),
        headers={"Retry-After": "0"},
        times=chance.randint(1, 3),
        skip=chance.randrange(4),
    )


def pushed(layout: Store, image: Image, faulty: Proxy, chance: random.Random) -> bool:
    """Push; whether it came to its end. Only an error of its own may end it sooner."""
    repository = Repository(faulty.address, chance.choice(["team/one", "team/two"]))
    with Registry(repository, plain_http=True, policy=QUICK) as connected:
        progress = Progress(Path("/dev/null").open("w"))  # noqa: SIM115
        try:
            done = push.push(layout, image, connected, image.ref, Wishes(jobs=3), progress=progress)
        except RegistryError:
            return False
        assert done.manifest_digest == image.manifest_digest
        assert connected.manifest_digest(image.ref) == image.manifest_digest
    return True


def test_many_pushes_through_random_faults(tmp_path: Path, chance: random.Random) -> None:
    layout = store.open_store(tmp_path / "store")
    ended = failed = 0
    with registry(tmp_path) as address, proxy(address) as faulty:
        for number in range(times(25, 1000)):
            image = an_image(layout, number, chance)
            faulty.faults = [a_fault(chance) for _ in range(chance.randint(1, 4))]
            if not pushed(layout, image, faulty, chance):
                failed += 1
                faulty.faults = []
                assert pushed(layout, image, faulty, chance)
            ended += 1
            faulty.faults = []
            # Whoever pulls gets the very bytes: the registry has each blob under its digest.
            for repository in ("team/one", "team/two"):
                with Registry(Repository(faulty.address, repository), plain_http=True) as found:
                    if found.manifest_digest(image.ref) is not None:
                        assert all(
                            found.has_blob(item.blob.digest, item.blob.size)
                            for item in image.layers
                        )
    print(f"{ended} pushes, {failed} of them with an error first")
    assert failed < ended // 2
