"""The scripts that draw charts, in one piece, so that a page needs no network."""

import altair
import vl_convert

VEGALITE = ".".join(altair.VEGALITE_VERSION.split(".")[:2])
"""The version of Vega-Lite that Altair writes for, as vl-convert names it."""


def vega_bundle() -> str:
    """One script that defines `vega`, `vegaLite` and `vegaEmbed` in the versions Altair asks for."""
    versions = (
        f'var VEGA_DEBUG={{vega_version:"{altair.VEGA_VERSION}",'
        f'vegalite_version:"{altair.VEGALITE_VERSION}",vegaembed_version:"{altair.VEGAEMBED_VERSION}"}};'
    )
    bundle = vl_convert.javascript_bundle(vl_version=VEGALITE)  # type: ignore[call-arg]
    return f"(function(){{{bundle}\n}})();\n{versions}\n"
