"""Loop nests to kernel source: Python text generic in its extents, so that one text serves every shape.

What a text does not say is which memory and which sizes it works on: `Source.arguments` lists those, in the order of
the text's parameters. Names come from the ops, never from the user's program, so equal nests give equal texts.
"""

from graphc.backends.source.lines import Source
from graphc.backends.source.writer import write
