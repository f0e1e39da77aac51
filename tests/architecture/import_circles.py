"""Find circles in the import graph of a package."""

from grimp import ImportGraph


def import_circles(graph: ImportGraph) -> list[list[str]]:
    """Return the groups of modules that import each other, directly or through others.

    These are the strongly connected components with more than one module (Tarjan, "Depth-first search and
    linear graph algorithms", 1972). Each group and the list are sorted.
    """
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    circles: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = lowest[module] = len(index)
        path.append(module)
        for imported in graph.find_modules_directly_imported_by(module):
            if imported not in index:
                visit(imported)
                lowest[module] = min(lowest[module], lowest[imported])
            elif imported in path:
                lowest[module] = min(lowest[module], index[imported])
        if lowest[module] == index[module]:
            start = path.index(module)
            circle = sorted(path[start:])
            del path[start:]
            if len(circle) > 1:
                circles.append(circle)

    for module in sorted(graph.modules):
        if module not in index:
            visit(module)
    return sorted(circles)
