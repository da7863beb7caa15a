"""Bytes through the router: files, planes, what may be written, and what is left after a restart."""

import concurrent.futures
import hashlib
import signal

import numpy
import omero
import omero.clients
import omero.cmd
import pytest
from omero.rtypes import rlong, rstring

from omero_stand_in import testing


def new_file(client, hasher=""):
    row = omero.model.OriginalFileI()
    row.name, row.path = rstring("a name"), rstring("/tests/")
    if hasher:
        row.hasher = omero.model.ChecksumAlgorithmI()
        row.hasher.value = rstring(hasher)
    return client.sf.getUpdateService().saveAndReturnObject(row)


def new_pixels(client, kind="uint16", sizes=(6, 4, 2, 1), channels=2):
    pixels_type = client.sf.getTypesService().getEnumeration("PixelsType", kind)
    service = client.sf.getPixelsService()
    image = service.createImage(*sizes, list(range(channels)), pixels_type, "an image", "").val
    query = "select p.id from Pixels p where p.image.id = :id"
    found = client.sf.getQueryService().projection(query, omero.sys.ParametersI().addId(image))
    return image, found[0][0].val


@pytest.fixture
def store(ada):
    store = ada.sf.createRawPixelsStore()
    yield store
    store.close()


def test_a_file_comes_back_as_it_was_written_with_size_and_hash(ada):
    row, content = new_file(ada, "SHA1-160"), bytes(range(256)) * 5000
    store = ada.sf.createRawFileStore()
    store.setFileId(row.id.val)
    for start in range(0, len(content), 100_000):
        part = content[start : start + 100_000]
        store.write(part, start, len(part))
    saved = store.save()
    assert saved.size.val == len(content)
    assert saved.hash.val == hashlib.sha1(content).hexdigest()
    assert bytes(store.read(0, len(content))) == content
    store.close()


def test_reading_past_the_end_gives_zeroes(ada):
    store = ada.sf.createRawFileStore()
    store.setFileId(new_file(ada).id.val)
    store.write(b"abc", 0, 3)
    assert bytes(store.read(1, 4)) == b"bc\0\0"
    store.close()


def test_a_reader_of_anothers_file_cannot_write_it(login, new_user, new_group):
    group = new_group("rwr---")
    owner, reader = login(new_user(group)), login(new_user(group))
    row = new_file(owner)
    store = reader.sf.createRawFileStore()
    store.setFileId(row.id.val)
    with pytest.raises(omero.SecurityViolation, match="File not writeable"):
        store.write(b"abc", 0, 3)
    store.close()


def test_planes_tiles_rows_and_stacks_agree(ada, store):
    _, pixels = new_pixels(ada)
    store.setPixelsId(pixels, False)
    values = numpy.arange(2 * 2 * 4 * 6, dtype=">u2").reshape(2, 2, 4, 6)  # c, z, y, x
    for c in range(2):
        for z in range(2):
            store.setPlane(values[c, z].tobytes(), z, c, 0)
    assert bytes(store.getPlane(1, 0, 0)) == values[0, 1].tobytes()
    assert bytes(store.getTile(1, 1, 0, 2, 1, 3, 2)) == values[1, 1, 1:3, 2:5].tobytes()
    assert bytes(store.getRow(3, 0, 1, 0)) == values[1, 0, 3].tobytes()
    assert bytes(store.getCol(5, 0, 1, 0)) == values[1, 0, :, 5].tobytes()
    assert bytes(store.getStack(1, 0)) == values[1].tobytes()
    cube = store.getHypercube([0, 0, 0, 0, 0], [6, 4, 2, 2, 1], [2, 2, 1, 1, 1])
    assert bytes(cube) == values[:, :, ::2, ::2].tobytes()
    with pytest.raises(omero.ApiUsageException, match="Z '2' greater than sizeZ '2'"):
        store.getPlane(2, 0, 0)


def test_pixels_are_written_once(ada, store):
    _, pixels = new_pixels(ada, "uint8", (6, 4, 1, 1), 1)
    store.setPixelsId(pixels, False)
    store.setPlane(bytes(24), 0, 0, 0)
    later = ada.sf.createRawPixelsStore()
    later.setPixelsId(pixels, False)
    with pytest.raises(omero.ApiUsageException, match="Write-method not permitted"):
        later.setPlane(bytes([1] * 24), 0, 0, 0)
    later.close()


def test_the_sha1_of_the_planes_is_stored(ada, store):
    _, pixels = new_pixels(ada, "uint8", (6, 4, 1, 1), 1)
    store.setPixelsId(pixels, False)
    store.setPlane(bytes(range(24)), 0, 0, 0)
    assert store.save().sha1.val == hashlib.sha1(bytes(range(24))).hexdigest()


def test_many_clients_read_at_once(ada, store):
    _, pixels = new_pixels(ada, "uint8", (512, 512, 1, 1), 4)
    store.setPixelsId(pixels, False)
    for c in range(4):
        store.setPlane(bytes([c]) * 512 * 512, 0, c, 0)
    store.save()

    def read(c):
        mine = ada.sf.createRawPixelsStore()
        try:
            mine.setPixelsId(pixels, True)
            return [set(bytes(mine.getPlane(0, c, 0))) for _ in range(5)]
        finally:
            mine.close()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, range(4))) == [[{c}] * 5 for c in range(4)]


def test_deleting_an_image_deletes_its_planes(ada, store, stand_in):
    image, pixels = new_pixels(ada, "uint8", (6, 4, 1, 1), 1)
    store.setPixelsId(pixels, False)
    store.setPlane(bytes(24), 0, 0, 0)
    store.save()
    file = stand_in.data / "Pixels" / str(pixels)
    assert file.exists()
    ada.submit(omero.cmd.Delete2(targetObjects={"Image": [image]}))
    assert not file.exists()


def test_what_was_saved_is_there_after_a_kill(tmp_path):
    with testing.running(tmp_path / "data", log=tmp_path / "first.log") as server:
        client = omero.client(server.host, server.port)
        client.createSession("root", server.root_password)
        row = new_file(client)
        files = client.sf.createRawFileStore()
        files.setFileId(row.id.val)
        files.write(b"abc", 0, 3)
        files.save()
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        try:
            client.closeSession()
        except Exception:
            client.ic.destroy()
    with testing.running(tmp_path / "data", log=tmp_path / "second.log") as server:
        client = omero.client(server.host, server.port)
        client.createSession("root", server.root_password)
        try:
            found = client.sf.getQueryService().get("OriginalFile", row.id.val)
            files = client.sf.createRawFileStore()
            files.setFileId(row.id.val)
            assert (found.size, bytes(files.read(0, 3))) == (rlong(3), b"abc")
        finally:
            client.closeSession()


def test_planes_that_a_server_keeps_as_a_pyramid_are_written_by_tiles_only(ada, store):
    _, pixels = new_pixels(ada, "uint8", (3200, 3200, 1, 1), 1)
    store.setPixelsId(pixels, True)
    assert store.requiresPixelsPyramid()
    with pytest.raises(omero.InternalException, match="Non-tile based writing unsupported"):
        store.setRow(bytes(3200), 0, 0, 0, 0)
    wide, high = store.getTileSize()
    store.setTile(bytes([5]) * (wide * high), 0, 0, 0, wide, 0, wide, high)
    assert bytes(store.getTile(0, 0, 0, wide - 1, 0, 2, 1)) == bytes([0, 5])
    with pytest.raises(omero.ApiUsageException, match="not implemented"):
        store.getResolutionLevels()


def test_real_numbers_have_no_pyramid(ada, store):
    _, pixels = new_pixels(ada, "float", (3200, 3200, 1, 1), 1)
    store.setPixelsId(pixels, True)
    assert not store.requiresPixelsPyramid()


def test_setting_the_same_file_again_keeps_it_open_and_another_file_drops_what_was_not_saved(ada):
    one, other = new_file(ada).id.val, new_file(ada).id.val
    query, store = ada.sf.getQueryService(), ada.sf.createRawFileStore()
    store.setFileId(one)
    store.write(b"abc", 0, 3)
    store.setFileId(one)
    assert store.save().size.val == 3
    store.write(b"def", 3, 3)
    store.setFileId(other)
    assert query.get("OriginalFile", one).size.val == 3
    store.setFileId(one)  # the size in its row is not its real size
    assert store.save().size.val == 6
    store.close()


def test_for_a_reader_a_wrong_length_is_reported_before_the_missing_permission(login, new_user, new_group):
    group = new_group("rwr---")
    owner, reader = login(new_user(group)), login(new_user(group))
    number = new_file(owner).id.val
    store = reader.sf.createRawFileStore()
    store.setFileId(number)
    with pytest.raises(omero.ApiUsageException, match="newLimit > capacity"):
        store.write(b"a", 0, 5)
    with pytest.raises(omero.SecurityViolation, match="not writeable"):
        store.write(b"a", 0, 1)
    assert store.truncate(10) is False
    store.close()
