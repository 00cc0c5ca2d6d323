"""Whether a chat template takes message content as a string or as a list of parts, read from its syntax tree.

vLLM decides this way (`--chat-template-content-format auto`), and the two forms may render differently: parts are
joined with newlines for a template that wants strings.
"""

from collections.abc import Iterator

from jinja2 import Environment, nodes

CONTENT = "content"


def takes_parts(environment: Environment, template: str) -> bool:
    """True where the template loops over a message's content."""
    root = environment.parse(template)
    messages = set(_aliases(root, "messages"))
    loops = list(root.find_all(nodes.For))
    message_names = [
        loop.target.name
        for loop in loops
        if isinstance(loop.target, nodes.Name) and any(_is_variable(loop.iter, name) for name in messages)
    ]
    in_macros = {id(loop): macro for macro in root.find_all(nodes.Macro) for loop in macro.find_all(nodes.For)}
    for loop in loops:
        if any(_is_content_of(loop.iter, name) for name in message_names):
            return True
        macro = in_macros.get(id(loop))
        if isinstance(loop.iter, nodes.Name) and (
            loop.iter.name == CONTENT if macro is None else loop.iter.name in _content_names(root, macro, message_names)
        ):
            return True
    return False


def _aliases(root: nodes.Template, name: str) -> Iterator[str]:
    """The variable and whatever is assigned from it, from its slices or filters, however often."""
    pending, seen = [name], {name}
    while pending:
        current = pending.pop()
        yield current
        for assign in root.find_all(nodes.Assign):
            if not isinstance(assign.target, nodes.Name) or assign.target.name in seen:
                continue
            if _is_variable(assign.node, current):
                seen.add(assign.target.name)
                pending.append(assign.target.name)


def _content_names(root: nodes.Template, macro: nodes.Macro, message_names: list[str]) -> set[str]:
    """Parameters of the macro that some call gives a message's content."""
    own = [argument.name for argument in macro.args]
    found = set()
    for call in root.find_all(nodes.Call):
        if not isinstance(call.node, nodes.Name) or call.node.name != macro.name:
            continue
        given = [*zip(own, call.args, strict=False), *((each.key, each.value) for each in call.kwargs)]
        found |= {
            name for name, value in given if name in own and any(_is_content_of(value, each) for each in message_names)
        }
    return found


def _bare(node: nodes.Node | None) -> nodes.Node | None:
    """The node without filters, tests and slices around it."""
    while node is not None:
        if isinstance(node, nodes.Filter | nodes.Test) or (
            isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)
        ):
            node = node.node
        else:
            break
    return node


def _is_variable(node: nodes.Node | None, name: str) -> bool:
    bare = _bare(node)
    return isinstance(bare, nodes.Name) and bare.ctx == "load" and bare.name == name


def _is_content_of(node: nodes.Node | None, name: str) -> bool:
    bare = _bare(node)
    if isinstance(bare, nodes.Getitem):
        named = isinstance(bare.arg, nodes.Const) and bare.arg.value == CONTENT
    else:
        named = isinstance(bare, nodes.Getattr) and bare.attr == CONTENT
    return named and isinstance(bare, nodes.Getitem | nodes.Getattr) and _is_variable(bare.node, name)
