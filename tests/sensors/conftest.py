"""The scene of two zones is that of the tests of scenes."""

from tests.scenes.conftest import scene

__all__ = ["scene"]
