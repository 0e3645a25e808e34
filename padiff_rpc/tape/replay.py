"""Tell an observer of recorded boundaries, as a recorder tells of live ones, and find the files of their records."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import Boundary, ModelDescription, Observer, Phase, Record, RecordOptions, SilentTensor
from padiff_rpc.tape.entries import TensorRef
from padiff_rpc.tape.read_report import TapedBoundary, TapedRun
from padiff_rpc.tensors.tensor import Digest, TensorSpec


class Replay:
    """Gives ids to the records of a dump. Those of the forward and backward that were replayed last can be found by id.

    Ids are never used twice.

    Args:
        path: The dump, for errors.
        description: The recorded model.
    """

    def __init__(self, path: Path, description: ModelDescription) -> None:
        self._path = path
        self._known = {route for layer in description.layers for route in (layer.route, *layer.aliases)}
        self._first = {alias: layer.route for layer in description.layers for alias in layer.aliases}
        self._records: dict[int, TensorRef] = {}
        self._digests: dict[tuple[Path, int, TensorSpec], Digest] = {}
        self._next_id = 1

    def clear(self) -> None:
        """Forget the records, and the digests of their files."""
        self._records.clear()
        self._digests.clear()

    def check(self, options: RecordOptions, run: TapedRun) -> None:
        """Refuse to replay what was not recorded.

        Args:
            options: What is asked for.
            run: The run that would be replayed.

        Raises:
            PadiffError: NOT_SUPPORTED for a synced run, or for functional calls that were not recorded.
            PadiffError: UNKNOWN_NAME for a layer that the dump does not have.
        """
        if options.api_calls and not run.api_calls:
            raise PadiffError(
                f"the dump {str(self._path)!r} holds no functional calls",
                reason=Reason.NOT_SUPPORTED,
                hint="record it with --api-calls (PADIFF_API_CHECK=ON where a script dumps), or compare without them",
            )
        if options.sync:
            raise PadiffError(
                f"a tape cannot be fed: {str(self._path)!r} is a dump, and runs no layer",
                reason=Reason.NOT_SUPPORTED,
                hint="in single step the recorded model is base, and raw one that runs",
            )
        for route in options.routes or ():
            if route not in self._known:
                nearest = difflib.get_close_matches(route, self._known, n=1)
                raise PadiffError(
                    f"no layer {route!r} in the dump {str(self._path)!r}",
                    reason=Reason.UNKNOWN_NAME,
                    hint=f"did you mean {nearest[0]!r}?" if nearest else "describe() lists the layers",
                )

    def tell(
        self,
        boundaries: Sequence[TapedBoundary],
        phase: Phase,
        run: TapedRun,
        options: RecordOptions,
        observer: Observer | None,
    ) -> tuple[Record, ...]:
        """Call the observer for the boundaries that were asked for, in order and numbered anew.

        A caller that was not asked for is replaced by the nearest one around it that was.

        Args:
            boundaries: The boundaries of a phase.
            phase: Which phase that is.
            run: The run that they are of.
            options: What is asked for.
            observer: Whom to call. None only makes records of the model's own outputs.

        Returns:
            The records of the model's own outputs; () in a backward, or if the root was not asked for.
        """
        outputs: tuple[Record, ...] = ()
        asked = self._asked(options)
        seq = 0
        for taped in boundaries:
            is_result = phase == "forward" and (taped.route, taped.side) == ("", "output")
            caller = run.callers[(taped.route, taped.call)]
            api = taped.route not in self._known
            if api:
                left_out = not options.api_calls or (asked is not None and (caller is None or caller[0] not in asked))
            else:
                left_out = asked is not None and taped.route not in asked
            if left_out or (taped.side == "input" and not options.inputs) or (observer is None and not is_result):
                continue
            while caller is not None and asked is not None and caller[0] not in asked:
                caller = run.callers.get(caller)
            records = tuple(self._capture(ref) for ref in taped.tensors)
            if observer is not None:
                observer.observe(Boundary(seq, phase, taped.route, taped.call, taped.side, caller, records, api))
            outputs = records if is_result else outputs
            seq += 1
        return outputs

    def silent(self, run: TapedRun, options: RecordOptions) -> tuple[SilentTensor, ...]:
        """Return the tensors, of those that were asked for, whose gradient never arrived."""
        asked = self._asked(options)
        return tuple(
            place
            for place in run.without_gradient
            if (asked is None or place[0] in asked) and (options.inputs or place[2] != "input")
        )

    def find(self, identifier: int) -> TensorRef:
        """Return the tensor of a record.

        Raises:
            PadiffError: UNKNOWN_NAME if the record is not of the forward that was replayed last.
        """
        if identifier not in self._records:
            raise PadiffError(
                f"record {identifier} is not of the step that was replayed last",
                reason=Reason.UNKNOWN_NAME,
                hint="records live until the next forward begins",
            )
        return self._records[identifier]

    def digest(self, ref: TensorRef) -> Digest:
        """Summarise a tensor; a file that several records share is read once."""
        key = (ref.file.path, ref.file.offset, ref.spec)
        if key not in self._digests:
            self._digests[key] = ref.digest()
        return self._digests[key]

    def _asked(self, options: RecordOptions) -> set[str] | None:
        """Return the routes that were asked for, aliases replaced by first routes; None if all were."""
        return None if options.routes is None else {self._first.get(route, route) for route in options.routes}

    def _capture(self, ref: TensorRef) -> Record:
        record = Record(self._next_id, ref.name, ref.spec, self.digest(ref))
        self._records[record.id] = ref
        self._next_id += 1
        return record
