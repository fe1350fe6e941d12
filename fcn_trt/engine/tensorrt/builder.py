"""Typed ONNX to an engine of TensorRT or TensorRT-RTX.

    read the spec -> parse -> limits -> compile, in a thread that can be stopped -> prove -> bundle

TensorRT compiles for the GPU of this machine. TensorRT-RTX compiles ahead of time for the GPUs it
is told, and needs none itself.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fcn_trt.cuda.nvrtc import compile_kernels, kernel_sources_sha256, known_capabilities
from fcn_trt.engine.bundle import Bundle, CheckBundle, Compiled, refuse_foreign_files, write_bundle
from fcn_trt.engine.options import BuildOptions
from fcn_trt.engine.proof import prove
from fcn_trt.engine.tensorrt.caches import keep_timing_cache, use_timing_cache
from fcn_trt.engine.tensorrt.collector import collector_paused
from fcn_trt.engine.tensorrt.device import Device, find_device
from fcn_trt.engine.tensorrt.layer_report import layer_report, read_report
from fcn_trt.engine.tensorrt.library import (
    Log,
    TensorRtLibrary,
    TensorRtTarget,
    limit_capabilities,
    load_library,
    scratch_bytes,
    strongly_typed_network,
)
from fcn_trt.engine.tensorrt.network import network_convolutions, parse_network
from fcn_trt.engine.tensorrt.plan import deserialise
from fcn_trt.engine.tensorrt.progress import OnPhase, Progress
from fcn_trt.errors import EngineError, FcnTrtError
from fcn_trt.network.file import Network
from fcn_trt.spec import INPUT_NAME, Spec

if TYPE_CHECKING:
    from tensorrt_types import Builder, IBuilderConfig, ICudaEngine, INetworkDefinition, TensorRt

__all__ = ["build_tensorrt", "compile_tensorrt"]

_log = logging.getLogger(__name__)

_AMPERE_PLUS = ("8.0", "8.7", "9.0", "10.0", "11.0", "12.0")
"""The first GPU of each generation since Ampere, and the Jetsons, which need their own."""


def build_tensorrt(
    network: Network,
    out: Path,
    *,
    target: TensorRtTarget,
    options: BuildOptions,
    inputs_sha256: str = "",
    check: CheckBundle = lambda _: (),
    on_phase: OnPhase = lambda _: None,
) -> Bundle:
    """Compile a typed ONNX, prove its precision, and write the bundle.

    Ctrl-C stops the builder at its next step and leaves nothing under the bundle's name.

    Args:
        inputs_sha256: Of everything that a recipe made the network from.
        check: As for `write_bundle`.

    Raises:
        OnnxError: the file is damaged or carries no spec.
        MissingExtraError: the library is not installed, or cuda-bindings, which compiles kernels.
        EngineError: there is no GPU that it needs, it cannot compile the network, or compiles it to
            another precision.
        BundleError: the folder holds files that are no bundle's.
        OutputError: the bundle cannot be written.
    """
    refuse_foreign_files(out)
    data = network.read_bytes()
    compiled = compile_tensorrt(
        data, network.spec, name=network.path, target=target, options=options, on_phase=on_phase
    )
    return write_bundle(
        out,
        network=network,
        data=data,
        compiled=compiled,
        options=options,
        inputs_sha256=inputs_sha256,
        check=check,
    )


def compile_tensorrt(
    network: bytes,
    spec: Spec,
    *,
    name: Path,
    target: TensorRtTarget,
    options: BuildOptions,
    on_phase: OnPhase = lambda _: None,
) -> Compiled:
    """Compile a typed ONNX and prove its precision; nothing is written but the timing cache.

    Args:
        network: The typed ONNX file's bytes.
        name: What to call the file in messages.

    Raises:
        MissingExtraError, EngineError: as for `build_tensorrt`.
    """
    device = find_device(target, spec.precision, options)
    library = load_library(target)
    try:
        with collector_paused():
            compiler = _Compiler(library, name, spec, options, device)
            compiler.prepare(network)
            kernels = {c: compile_kernels(c) for c in _kernel_capabilities(device, options)}
            found = compiler.run(on_phase)
            return replace(found, kernels=kernels, kernels_sha256=kernel_sources_sha256())
    except FcnTrtError:
        raise
    except (RuntimeError, TypeError) as error:  # what pybind11 makes of the library's own checks
        reason = " ".join(str(error).split())[:400]
        raise EngineError(f"{library.name} does not take {name}: {reason}") from error


def _kernel_capabilities(device: Device, options: BuildOptions) -> list[str]:
    """The GPUs that kernels are compiled for; most also run on later ones of a generation."""
    chosen = list(device.compute_capabilities)
    if options.hardware_compatibility == "ampere_plus":
        known = known_capabilities()
        lacking = [capability for capability in _AMPERE_PLUS if capability not in known]
        if lacking:
            _log.warning("this NVRTC does not compile for %s; left out", ", ".join(lacking))
        chosen += [c for c in _AMPERE_PLUS if c in known and c not in chosen]
    return chosen


class _Compiler:
    """One build: the library's objects in the order in which they need each other."""

    def __init__(
        self,
        library: TensorRtLibrary,
        name: Path,
        spec: Spec,
        options: BuildOptions,
        device: Device,
    ) -> None:
        self._library, self._name = library, name
        self._spec, self._options, self._device = spec, options, device
        self._trt: TensorRt = library.trt
        self._messages = Log()
        self._logger = self._messages.logger(self._trt)
        self._builder: Builder = self._trt.Builder(self._logger)
        self._network: INetworkDefinition = strongly_typed_network(self._trt, self._builder)
        self._config: IBuilderConfig = self._builder.create_builder_config()

    def prepare(self, data: bytes) -> None:
        """Read an ONNX file and all options: what is refused is refused here, in a second."""
        parse_network(self._library, self._network, self._logger, data, self._name)
        self._configure()

    def run(self, on_phase: OnPhase) -> Compiled:
        """The build of what was prepared, but for the kernels."""
        plan = self._compile(on_phase)
        if self._device.gpu is not None and self._options.timing_cache:
            keep_timing_cache(self._config, self._library, self._device.gpu)
        return self._prove(plan)

    def _configure(self) -> None:
        """Set every limit and promise; what is computed stands in the network already."""
        trt, options, device = self._trt, self._options, self._device
        config = self._config
        # TensorFloat-32 is on by default, and would make FP32 mean something else.
        config.clear_flag(trt.BuilderFlag.TF32)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        config.builder_optimization_level = options.optimization_level
        if options.workspace_bytes is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
        if options.tactic_bytes is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.TACTIC_DRAM, options.tactic_bytes)
        self._set_compatibility()
        if options.strip:
            config.set_flag(trt.BuilderFlag.STRIP_PLAN)
        self._add_profile()
        if self._library.target == "tensorrt-rtx":
            limit_capabilities(trt, config, device.compute_capabilities)
        elif device.gpu is not None and options.timing_cache:
            use_timing_cache(config, self._library, device.gpu)

    def _set_compatibility(self) -> None:
        trt, options = self._trt, self._options
        if options.version_compatible:
            self._config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
            if self._library.target == "tensorrt-rtx":  # which has no lean runtime to put in
                self._config.set_flag(trt.BuilderFlag.EXCLUDE_LEAN_RUNTIME)
        if options.hardware_compatibility == "none":
            return
        level = options.hardware_compatibility.upper()
        levels = trt.HardwareCompatibilityLevel.__members__
        if self._library.target == "tensorrt-rtx" or level not in levels:
            raise EngineError(
                f"{self._library.name} does not know hardware_compatibility "
                f"{options.hardware_compatibility!r}; leave it out"
            )
        self._config.hardware_compatibility_level = levels[level]

    def _add_profile(self) -> None:
        """One optimization profile: the shapes that the network takes, and the one to optimise."""
        spec, allowed = self._spec, self._spec.dynamic
        if allowed is None:
            return
        profile = self._builder.create_optimization_profile()
        profile.set_shape(
            INPUT_NAME,
            (allowed.min_batch, 3, *allowed.min_size),
            (spec.batch, 3, *spec.input_size),
            (allowed.max_batch, 3, *allowed.max_size),
        )
        if self._config.add_optimization_profile(profile) < 0:
            raise EngineError(
                f"{self._library.name} refuses the dynamic shape: {self._messages.reason()}"
            )

    def _compile(self, on_phase: OnPhase) -> bytes:
        """Build the plan in a thread of its own, so that Ctrl-C is heard while it runs.

        Raises:
            EngineError: the library could not.
            KeyboardInterrupt: Ctrl-C; the builder has stopped by then.
        """
        self._messages.clear()
        progress = Progress(on_phase)
        monitor = progress.monitor(self._trt)
        self._config.progress_monitor = monitor
        with ThreadPoolExecutor(1, thread_name_prefix="tensorrt-build") as pool:
            try:
                build = pool.submit(
                    self._builder.build_serialized_network, self._network, self._config
                )
                plan: Any = build.result()
            except BaseException:
                progress.cancel()  # leaving the block waits for the builder
                raise
        if progress.error is not None:
            raise progress.error
        if plan is None:
            raise EngineError(
                f"{self._library.name} cannot compile {self._name}: {self._messages.reason()}"
                f"{_way_out(self._messages.reason())}"
            )
        return bytes(plan)

    def _prove(self, plan: bytes) -> Compiled:
        """Ask the engine what it computes in, or the typed network where no GPU can load it."""
        library, spec, device = self._library, self._spec, self._device
        convolutions = network_convolutions(self._trt, self._network, spec)
        source: Literal["engine", "network"] = "network"
        engine: ICudaEngine | None = None
        layers: str | None = None
        if device.gpu is not None:
            host_code = self._options.version_compatible
            engine = deserialise(library, plan, self._messages, host_code=host_code)
            layers = layer_report(self._trt, engine, spec)
            types = read_report(layers)
            missing = [c.name for c in convolutions if c.name not in types]
            if missing:
                _log.warning(
                    "%s does not report %d of %d convolutions, such as %s: they count as typed",
                    *(library.name, len(missing), len(convolutions), missing[0]),
                )
            else:
                source = "engine"
            convolutions = [
                replace(c, precision=types.get(c.name, c.precision)) for c in convolutions
            ]
        return Compiled(
            target=library.target,
            target_version=library.version,
            device=device.name,
            compute_capabilities=device.compute_capabilities,
            precision_proven=prove(convolutions, spec, source=source, builder=library.name),
            scratch_bytes=None if engine is None else scratch_bytes(engine),
            plan=plan,
            layers=layers,
        )


def _way_out(reason: str) -> str:
    """What helps with an error of the builder that is known."""
    known = {
        "workspace": "; raise the workspace limit",
        "out of memory": "; close other programs, or lower the workspace and tactic limits",
        "OutOfMemory": "; close other programs, or lower the workspace and tactic limits",
        "graph_jit": "; a stripped plan needs a GPU to be built",
    }
    return next((advice for words, advice in known.items() if words in reason), "")
