"""Jinja environment of this project's pages: unknown names are errors, and texts are escaped."""

from collections.abc import Callable

import jinja2


def template_environment(package: str, escapes: bool | Callable[[str | None], bool] = True) -> jinja2.Environment:
    """Environment of the templates in the folder ``templates`` of a package.

    Args:
        package: name of the package, such as ``bp_lcz.maps``.
        escapes: whether texts are escaped for HTML, or a function that decides this by the template's name.
    """
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=escapes,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
