"""The package as such: stub and module agree, exceptions are a tree, the README runs."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import openmls
from openmls import _openmls, exceptions

STUB = Path(_openmls.__file__).with_name("_openmls.pyi")
README = Path(__file__).parent.parent / "README.md"


def public(names: list[str]) -> set[str]:
    return {name for name in names if not name.startswith("_")}


def stub_body() -> list[ast.stmt]:
    return ast.parse(STUB.read_text()).body


def test_the_stub_has_exactly_the_names_of_the_module() -> None:
    names = set()
    for node in stub_body():
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    assert names == public(dir(_openmls))


def test_every_class_of_the_stub_has_exactly_the_members_of_the_native_one() -> None:
    for node in stub_body():
        if isinstance(node, ast.ClassDef):
            described = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
            assert described == public(dir(getattr(_openmls, node.name))), node.name


def test_every_function_of_the_stub_has_exactly_the_parameters_of_the_native_one() -> None:
    def parameters(function: ast.FunctionDef) -> list[tuple[str, bool, bool]]:
        arguments = function.args
        positional = [
            (argument.arg, False, index >= len(arguments.args) - len(arguments.defaults))
            for index, argument in enumerate(arguments.args)
            if argument.arg != "self"
        ]
        pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        return positional + [(argument.arg, True, default is not None) for argument, default in pairs]

    def native(owner: object, name: str) -> list[tuple[str, bool, bool]]:
        signature = inspect.signature(getattr(owner, name))
        return [
            (
                parameter.name,
                parameter.kind is inspect.Parameter.KEYWORD_ONLY,
                parameter.default is not parameter.empty,
            )
            for parameter in signature.parameters.values()
            if parameter.name != "self"
        ]

    for node in stub_body():
        if isinstance(node, ast.FunctionDef):
            assert parameters(node) == native(_openmls, node.name), node.name
        elif isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and not any(
                    isinstance(mark, ast.Name) and mark.id == "property" for mark in item.decorator_list
                ):
                    owner = getattr(_openmls, node.name)
                    assert parameters(item) == native(owner, item.name), f"{node.name}.{item.name}"


def test_the_package_exports_the_whole_module_and_all_exceptions() -> None:
    assert set(openmls.__all__) == public(dir(_openmls)) | set(exceptions.__all__)
    assert list(openmls.__all__) == sorted(
        openmls.__all__, key=lambda name: (not name.isupper(), name[0].islower(), name)
    )


def test_every_exception_has_its_own_code_and_one_base() -> None:
    classes = [getattr(exceptions, name) for name in exceptions.__all__]
    assert all(issubclass(cls, openmls.MlsError) for cls in classes)
    assert len({cls.code for cls in classes}) == len(classes)
    assert openmls.WrongEpoch("text", current_epoch=7).current_epoch == 7


def test_native_classes_can_be_neither_made_nor_changed_from_python() -> None:
    with pytest.raises(TypeError):
        openmls.PublicGroup()
    client = openmls.Client.create(identity=b"x")
    with pytest.raises(AttributeError):
        client.identity = b"y"  # type: ignore[misc]  # what the test is about
    with pytest.raises(AttributeError):
        client.extra = 1  # type: ignore[attr-defined]  # what the test is about


def test_values_compare_and_hash_by_content() -> None:
    group = openmls.Client.create(identity=b"x").create_group(group_id=b"g")
    assert group.members() == group.members()
    assert len({*group.members(), *group.members()}) == 1


def test_wrong_types_are_type_errors() -> None:
    with pytest.raises(TypeError):
        openmls.inspect_message("text")  # type: ignore[arg-type]  # what the test is about
    group = openmls.Client.create(identity=b"x").create_group(group_id=b"g")
    with pytest.raises(TypeError):
        group.commit(app_data_updates=[1])  # type: ignore[arg-type]  # what the test is about


@pytest.mark.parametrize("number", [0, 1])
def test_the_examples_of_the_readme_run(number: int) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 2
    exec(compile("".join(blocks[: number + 1]), str(README), "exec"), {})  # noqa: S102  our own documentation
