"""The releases that the package is checked against, and what their bindings' wheels are."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RELEASES", "Release"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release of TensorRT or TensorRT-RTX.

    Attributes:
        name: For people.
        wheel: Project and version of its bindings.
        module: The extension module in that wheel.
        libraries: The C++ libraries that the module links to.
        sha256: Of the wheel for x86-64, by the tag of the Python.
    """

    name: str
    wheel: str
    module: str
    libraries: tuple[str, ...]
    sha256: dict[str, str]


def _tensorrt(version: str, hashes: dict[str, str]) -> Release:
    major = version.partition(".")[0]
    return Release(
        name=f"TensorRT {version}",
        wheel=f"tensorrt-cu12-bindings=={version}",
        module="tensorrt_bindings.tensorrt",
        libraries=tuple(
            f"lib{name}.so.{major}" for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser")
        ),
        sha256=hashes,
    )


RELEASES = (
    _tensorrt(
        "10.0.1",
        {
            "cp310": "d6f27c61f640ce0c4e4eb140eb7e53e57e48d87e7a336e0e31c777f5ca13e844",
            "cp311": "f7cfe4edc7d1db20aa2a765cb0acb0dae8a6c4583b99aeade397f9e8f87f4a74",
            "cp312": "4dac59171956cc1ec2ffef1fc39cf952ea89826da9b12908816fdb015ef02f79",
        },
    ),
    _tensorrt(
        "10.3.0",
        {
            "cp310": "1d6e4cf08ef1f54f6fd44a33cf6b253050af2fc6e9a1d92e40e1436a1d858eb0",
            "cp311": "59ace22d7f2ca1e9dcde2cb0cb5916912cb3cd5a9d72dd7852be0160d9b3a0ee",
            "cp312": "f5c2582aeaa7f5628d2c4d4148a701ebe97be78f7ff3b46a617f0ee0cb5460f2",
        },
    ),
    _tensorrt(
        "10.13.3.9",
        {
            "cp310": "3ca2635394789dd62346ff5ee3f02def53cee2cd21247cc342461dc721893a1e",
            "cp311": "33aa9d104c04b008871645a97bd8a1a02279cf498d251df5e767d9d5183e0646",
            "cp312": "193174cd0aa5ec7d63943d8d3f84ca9ec525477a9db3a9100bf2f77071b3fae8",
        },
    ),
    _tensorrt(
        "10.16.1.11",
        {
            "cp310": "c1b6a156db4eab526360f5dba375e5c33e1275e3f36b0a7d375febb3db6202fc",
            "cp311": "150ef2b672487e29a8ea916353467c3e199994fb33589167e3641a928e243aa7",
            "cp312": "8e339335e7255b3fb3954eca61b4acbbdfcf7b28505bd711914519647ba310c8",
        },
    ),
    _tensorrt(
        "11.4.0.106",
        {
            "cp310": "d9f927d7337c360c3947d99fc0db17c3b3b935e677237f0475c7b054f28d2540",
            "cp311": "e2ab48f316bbff6a7a44a30e94a9ceb0d2cf6645ff39feadecfa68d7cb7a94bf",
            "cp312": "6490518c9e072d57e0a815ad80b103596933efe776ffa61766ef31c25dbd8b39",
        },
    ),
    Release(
        name="TensorRT-RTX 1.7.1.116",
        wheel="tensorrt-rtx-cu13-bindings==1.7.1.116",
        module="tensorrt_rtx_bindings.tensorrt_rtx",
        libraries=("libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"),
        sha256={
            "cp310": "f357cebfed83af6cbd1d3b172632cd9c6bb06a39e8296a8d3c11a9edd2fae357",
            "cp311": "6a4d2bf39a98b71238046b9a9dd22d0e6b146be90cd56ac09f1e068933e4e18d",
            "cp312": "52fb62cb86b922637848f5971b53153bf2e091c33948fa89efd215abaa52b044",
        },
    ),
)
"""JetPack 6 has the first, JetPack 7 the second and third; the last two are the newest."""
