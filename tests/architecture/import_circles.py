"""Find circles in the import graph of a package."""

from collections import defaultdict

from grimp import ImportGraph
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components


def import_circles(graph: ImportGraph) -> list[list[str]]:
    """Return the groups of modules that import each other, directly or through others; all sorted."""
    modules = sorted(graph.modules)
    number = {module: position for position, module in enumerate(modules)}
    imports = [
        (number[module], number[imported])
        for module in modules
        for imported in graph.find_modules_directly_imported_by(module)
    ]
    coordinates = tuple(zip(*imports, strict=True))
    edges = csr_array(([1] * len(imports), coordinates), shape=(len(modules), len(modules)))
    groups = defaultdict(list)
    for module, group in zip(modules, connected_components(edges, connection="strong")[1], strict=True):
        groups[group].append(module)
    return sorted(group for group in groups.values() if len(group) > 1)
