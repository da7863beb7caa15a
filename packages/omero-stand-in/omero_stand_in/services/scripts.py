"""`omero.api.IScript`: store scripts, return their parameters, run them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import omero
import omero.clients
import omero.model
from omero.rtypes import rlong, robject, rstring

from omero_stand_in import errors
from omero_stand_in.context import Call, context_of
from omero_stand_in.servant import Service

from .parameters import Parameters
from .processes import ScriptProcessService
from .processors import Processors
from .resources import acquire
from .script_files import HASHER, INERT, MIMETYPES, ScriptFiles, is_official, mimetype_of, sha1, taken_apart

if TYPE_CHECKING:
    from omero_stand_in.graph import Entity

#: Seconds that runScript and canRunScript wait for a processor by default.
PATIENCE = 5
NOT_PERMITTED = "No permission to upload script"


class ScriptService(Service):
    """Scripts of the caller, of colleagues, and official ones."""

    interface = omero.api.IScript
    checks_group = False

    @property
    def files(self) -> ScriptFiles:
        """Where the texts are."""
        return ScriptFiles.of(self.server)

    # -- finding ------------------------------------------------------------------------------------------------------
    def getScripts(self, call: Call) -> list[Any]:
        """The official scripts."""
        return self.getScriptsByMimetype(call, "")

    def getScriptsByMimetype(self, call: Call, mimetype: str) -> list[Any]:
        """The official scripts of a type; an empty type means all that can be run."""
        wanted = [mimetype] if mimetype.strip() else [kind for kind in MIMETYPES.values() if kind not in INERT]
        if not set(wanted) & set(MIMETYPES.values()):
            return []
        self.files.refresh()
        with self._reading(call) as tx:
            return [tx.load(entity) for entity in self.files.official(tx) if entity.get("mimetype") in wanted]

    def getUserScripts(self, call: Call, accepts: list[Any]) -> list[Any]:
        """Scripts that are not official, of the owner and group given, else of the session's group."""
        wanted = accepts or [omero.model.ExperimenterGroupI(call.session.group_id, False)]
        with self._reading(call) as tx:
            scripts = [entity for kind in MIMETYPES.values() for entity in tx.where("OriginalFile", mimetype=kind)]
            found = [entity for entity in scripts if not is_official(entity)]
            return [tx.load(entity) for entity in _accepted(found, wanted)]

    def getScriptID(self, call: Call, path: str) -> int:
        """The id of the official script of that path, -1 if there is none."""
        self.files.refresh()
        found = self.files.find(path)
        return -1 if found is None else int(found.id)

    def getScriptText(self, call: Call, number: int) -> str:
        """The text; empty for what is no script that the caller sees."""
        script = self._script(call, number)
        return "" if script is None else self.files.read(script)

    def getScriptWithDetails(self, call: Call, number: int) -> dict[str, Any]:
        """The text and the file, as a map of one entry; empty for what is no script that the caller sees."""
        script = self._script(call, number)
        if script is None:
            return {}
        with self._reading(call) as tx:
            return {self.files.read(script): robject(tx.load(script))}

    def getParams(self, call: Call, number: int) -> Any:
        """The parameters; null for what is no script that the caller sees."""
        self._check_group(call)
        return Parameters.of(self.server).get(call, number)

    # -- storing ------------------------------------------------------------------------------------------------------
    def uploadScript(self, call: Call, path: str, text: str) -> int:
        """Store a script of the caller and have it parsed; answers its id."""
        try:
            self._check_group(call)
        except omero.SecurityViolation:
            raise errors.security(NOT_PERMITTED) from None
        content = text.encode()
        folder, name = taken_apart(path)
        with self._reading(call) as tx:
            file = omero.model.OriginalFileI()
            file.setName(rstring(name))
            file.setPath(rstring(folder))
            file.setMimetype(None if mimetype_of(name) is None else rstring(mimetype_of(name)))
            self._describe(tx, file, content)
            number = int(tx.save(file).id.val)
            stored = tx.get("OriginalFile", number)
        self.files.write(stored, content)
        self._parse(call, number)
        return number

    def uploadOfficialScript(self, call: Call, path: str, text: str) -> int:
        """Store an official script, of a path that no other has; for administrators."""
        self._check_group(call)
        if not call.is_admin:
            raise errors.security(NOT_PERMITTED)
        self.files.refresh()
        found = self.files.find(path)
        if found is not None and found.get("mimetype") in MIMETYPES.values():
            raise errors.api_usage(f"Path already exists: {path}\nUse editScript to modify existing official scripts.")
        added = self.files.add(path, text.encode())
        if added.get("mimetype") not in INERT:
            self._parse(call, int(added.id))
        return int(added.id)

    def editScript(self, call: Call, file: Any, text: str) -> None:
        """Give a script another text and have that parsed."""
        self._check_group(call)
        if file is None or file.id is None:
            raise errors.api_usage("file object cannot be null")
        number, content = file.id.val, text.encode()
        stored = None if file.isLoaded() else self.files.script(call, number)
        with self._reading(call) as tx:
            if file.isLoaded():
                stored = tx.find("OriginalFile", number)
            if stored is None:
                raise errors.api_usage(f"could not find file: {number}")
            mimetype = mimetype_of(stored.get("name"))  # what could not be parsed gets another chance
            if is_official(stored) and call.is_admin:
                stored = tx.change(stored, size=len(content), hash=sha1(content), mimetype=mimetype)
            else:
                changed = tx.load(stored)
                changed.setMimetype(None if mimetype is None else rstring(mimetype))
                self._describe(tx, changed, content)
                tx.save(changed)
                stored = tx.get("OriginalFile", number)
        self.files.write(stored, content)
        self._parse(call, number)

    def deleteScript(self, call: Call, number: int) -> None:
        """Delete a script that no job was run with."""
        self._check_group(call)
        stored = self.files.script(call, number)
        if stored is None:
            raise errors.api_usage(f"No script with id {number} on server.")
        with self._reading(call) as tx:
            if not tx.can(stored, "delete"):
                raise errors.security(f"No permission to delete script with id {number}")
        place = self.files.place(stored)
        with self.server.graph.transaction(context_of(call).as_server()) as tx:
            if tx.where("JobOriginalFileLink", child=number):
                message = f"could not delete: [ome.model.core.OriginalFile#{number}]"
                raise errors.validation(
                    f"{message}; SQL [delete from originalfile where id=?]; "
                    "constraint [fkjoboriginalfilelink_child_originalfile]; nested exception is "
                    f"org.hibernate.exception.ConstraintViolationException: {message}"
                )
            tx.remove(stored)
        place.unlink(missing_ok=True)

    @staticmethod
    def _describe(tx: Any, file: Any, content: bytes) -> None:
        """Set the size and checksum of a row from its content."""
        file.setSize(rlong(len(content)))
        file.setHash(rstring(sha1(content)))
        file.setHasher(omero.model.ChecksumAlgorithmI(tx.enum("ChecksumAlgorithm", HASHER), False))

    def _parse(self, call: Call, number: int) -> None:
        """Have a new text parsed: what cannot be parsed is a script no more; other trouble is left for later."""
        try:
            Parameters.of(self.server).get(call, number)
        except omero.ValidationException:
            with self.server.graph.transaction(context_of(call).as_server()) as tx:
                tx.change(tx.get("OriginalFile", number), mimetype="text/plain")
            raise
        except omero.ServerError:
            pass

    # -- running ------------------------------------------------------------------------------------------------------
    def runScript(self, call: Call, number: int, inputs: dict[str, Any], seconds: omero.RInt | None) -> Any:
        """Run a script with a processor that comes forward within a time; answers its process."""
        self._check_group(call)
        job = omero.model.ScriptJobI()
        job.linkOriginalFile(omero.model.OriginalFileI(number, False))
        processor = acquire(call, job, PATIENCE if seconds is None else seconds.val)
        process = processor.execute(call, omero.rtypes.rmap(inputs))
        return ScriptProcessService(call, processor, process).publish()

    def canRunScript(self, call: Call, number: int) -> bool:
        """Whether a processor would take a script of the caller; official ones are always taken."""
        self._check_group(call)
        with self._reading(call) as tx:
            stored = tx.find("OriginalFile", number)
            if stored is not None and is_official(stored):
                return True
        return Processors.of(self.server).offer(call, None, PATIENCE)[0] is not None

    def validateScript(self, call: Call, job: Any, accepts: list[Any]) -> Any:
        """The script of a job, if it is one of those that a processor accepts.

        With an empty list these are the official scripts, and null is the answer for another; with a list the scripts
        of the owner and group given; without a list all.
        """
        self._check_group(call)
        with self._reading(call) as tx:
            links = tx.where("JobOriginalFileLink", parent=job.id.val)
            linked = [tx.find("OriginalFile", link.get("child")) for link in links]
            found = [entity for entity in linked if entity is not None and entity.get("mimetype") in MIMETYPES.values()]
            found = _accepted(found, accepts)
            if len(found) != 1:
                shown = ", ".join(entity.java for entity in found)
                raise errors.validation(f"Found wrong number of files: [{shown}]")
            only_official = accepts is not None and not accepts
            return None if only_official and not is_official(found[0]) else tx.load(found[0])

    # -- inside -------------------------------------------------------------------------------------------------------
    def _check_group(self, call: Call) -> None:
        """Raise if the group of the call is not the caller's."""
        self.server.calls.of(call.session, call.context, call.current)

    def _script(self, call: Call, number: int) -> Entity | None:
        self._check_group(call)
        return self.files.script(call, number)

    def _reading(self, call: Call) -> contextlib.AbstractContextManager[Any]:
        return self.server.graph.transaction(context_of(call))


def _accepted(found: list[Entity], accepts: list[Any] | None) -> list[Entity]:
    """Those of the files that fit a list of owners and groups; of several of a kind only the last counts."""
    owner = group = None
    for one in accepts or ():
        if isinstance(one, omero.model.Experimenter):
            owner = one.id.val
        elif isinstance(one, omero.model.ExperimenterGroup):
            group = one.id.val
        else:
            name = f"omero.model.{type(one).__name__}@{id(one) & 0xFFFFFFFF:08x}"
            raise errors.validation(f"Unsupported accept-type: {name}")
    return [entity for entity in found if owner in (None, entity.owner) and group in (None, entity.group)]
