"""How the pages of this project are filled: a name that a template lacks is an error, and texts are escaped."""

from collections.abc import Callable

import jinja2


def template_environment(package: str, escapes: bool | Callable[[str | None], bool] = True) -> jinja2.Environment:
    """Of the templates that lie in the folder ``templates`` of a package.

    Args:
        package: such as ``bp_lcz.maps``.
        escapes: whether texts are escaped for HTML, or for templates of which names.
    """
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=escapes,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
