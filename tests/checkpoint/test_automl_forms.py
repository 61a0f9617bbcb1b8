"""AutoML's weights in every form that they exist in: TF1 bundle, object-based bundle, HDF5."""

import shutil
import tarfile

import h5py
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from efficientdet.checkpoint.bundle import write_bundle
from efficientdet.checkpoint.identity import identify
from efficientdet.checkpoint.object_graph import GRAPH
from efficientdet.checkpoint.restore import restore
from efficientdet.checkpoint.stored import read_weights, require
from efficientdet.config import Config
from efficientdet.errors import UserError
from efficientdet.model.detector import build_detector

LITE0 = "efficientdet-lite0"


@pytest.fixture(scope="module")
def golden(shared):
    """lite0 of AutoML's Keras code for 8 classes at 256x96."""
    folder = shared / "golden" / "automl_keras"
    if not folder.is_dir():
        pytest.skip("needs ../shared/golden/automl_keras")
    return folder


@pytest.fixture(scope="module")
def lite0():
    config = Config.for_model(LITE0).override({"num_classes": 8, "image_size": "256x96"})
    return config, build_detector(config)


def forms(golden, tmp_path, form):
    """The golden weights packed in one of the ways that they are handed on."""
    h5, folder = golden / f"{LITE0}.h5", golden / LITE0
    if form in ("tgz of h5", "tar.gz of objects"):
        name = tmp_path / ("lite0.tgz" if "tgz" in form else "lite0.tar.gz")
        with tarfile.open(name, "w:gz", compresslevel=1) as tar:
            source = h5 if "h5" in form else folder
            tar.add(source, arcname=f"{LITE0}/{source.name}")
        return name
    if form == "folder of h5":
        (tmp_path / LITE0).mkdir()
        (tmp_path / LITE0 / "model.h5").symlink_to(h5)
        return tmp_path / LITE0
    return {"h5": h5, "objects": folder, "prefix": folder / "model"}[form]


@pytest.mark.parametrize("form", ["folder of h5", "tgz of h5", "prefix", "tar.gz of objects"])
def test_every_form_holds_the_same(golden, tmp_path, form):
    path = str(forms(golden, tmp_path, form))
    require(path)
    arrays = read_weights(path).arrays
    expected = read_weights(str(golden / f"{LITE0}.h5")).arrays
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize("form", ["h5", "objects"])
def test_outputs_are_automls(golden, lite0, tmp_path, form):
    config, model = lite0
    for variable in model.weights:
        variable.assign(np.zeros(variable.shape))
    report = restore(model, str(forms(golden, tmp_path, form)), config)
    report.require_complete()
    assert report.left_over == [] and len(report.names("restored")) == 588
    with np.load(golden / "outputs.npz") as outputs:
        classes, boxes = model(outputs["images"])
        for level in range(5):
            for name, ours in (("cls", classes), ("box", boxes)):
                expected = outputs[f"{name}{level + 3}"]
                np.testing.assert_allclose(ours[level], expected, rtol=1e-5, atol=1e-5)


def small_h5(path, names=("net/conv/kernel:0",), value=1.0):
    with h5py.File(path, "w") as file:
        for name in names:
            file[f"net/{name}"] = np.full((2, 3), value, np.float32)
    return path


def test_h5_of_a_whole_model(tmp_path):
    """`model.save` puts the weights into a folder, and the optimizer's beside it."""
    small_h5(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "a") as file:
        file.move("net", "model_weights/net")
        file["optimizer_weights/SGD/iter:0"] = np.int64(3)
    arrays = read_weights(str(tmp_path)).arrays
    assert list(arrays) == ["net/conv/kernel"] and arrays["net/conv/kernel"].shape == (2, 3)
    assert identify(tmp_path) == identify(tmp_path / "model.h5")


@pytest.mark.parametrize("kind", ["half", "other names", "NaN", "empty", "lying shape", "several"])
def test_damaged_h5_is_one_line(tmp_path, kind):
    path = small_h5(tmp_path / "model.h5", value=np.nan if kind == "NaN" else 1)
    if kind == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "other names":
        small_h5(path, ["vars/0"])
    elif kind == "empty":
        small_h5(path, [])
    elif kind == "lying shape":
        with h5py.File(path, "a") as file:
            file.create_dataset("net/net/big:0", shape=(1 << 40,), dtype="float32")
    elif kind == "several":
        small_h5(tmp_path / "other.h5")
    with pytest.raises(UserError, match=tmp_path.name) as error:
        read_weights(str(tmp_path))
    assert "\n" not in str(error.value)


def object_checkpoint(prefix, names, change=lambda graph: None):
    """A bundle of one variable a name, with an optimizer that keeps the first one's average."""
    graph, arrays = TrackableObjectGraph(), {}

    def add(name, value):
        node = graph.nodes.add()
        key = f"key{len(graph.nodes)}/.ATTRIBUTES/VARIABLE_VALUE"
        node.attributes.add(name="VARIABLE_VALUE", full_name=name, checkpoint_key=key)
        arrays[key] = np.float32([value])
        return len(graph.nodes) - 1

    weights = [add(name, 10 + number) for number, name in enumerate(names)]
    average, slot, rate = add("a/average", 5), add("a/momentum", 6), add("SGD/rate", 7)
    optimizer = graph.nodes.add()
    optimizer.children.add(node_id=rate, local_name="rate")
    for name, number in (("average", average), ("momentum", slot)):
        optimizer.slot_variables.add(
            original_variable_node_id=weights[0], slot_name=name, slot_variable_node_id=number
        )
    change(graph)
    write_bundle(prefix, arrays | {GRAPH: np.array(graph.SerializeToString())})


def test_the_average_of_an_optimizer_is_preferred(tmp_path):
    object_checkpoint(tmp_path / "ckpt-3", ["a/kernel", "b/kernel"])
    stored = read_weights(str(tmp_path))
    assert stored.arrays == {"a/kernel": [5], "b/kernel": [11]} and stored.num_averaged == 1
    assert not stored.is_own


def test_checkpoints_of_todays_tensorflow(tmp_path):
    net = tf.Module()
    net.kernel = tf.Variable([1.0, 2.0], name="net/kernel")
    path = tf.train.Checkpoint(model=net).save(str(tmp_path / "ckpt"))
    np.testing.assert_array_equal(read_weights(path).arrays["net/kernel"], [1, 2])


def same_names(graph):
    graph.nodes[1].attributes[0].full_name = graph.nodes[0].attributes[0].full_name


def no_names(graph):
    for node in graph.nodes:
        del node.attributes[:]


def far_nodes(graph):
    graph.nodes[-1].slot_variables[0].slot_variable_node_id = 999
    graph.nodes[-1].slot_variables[1].original_variable_node_id = -5


@pytest.mark.parametrize(
    ("change", "said"),
    [(same_names, "two variables a/kernel"), (no_names, "names no variable"), (far_nodes, None)],
)
def test_odd_graphs(tmp_path, change, said):
    object_checkpoint(tmp_path / "ckpt-3", ["a/kernel", "b/kernel"], change)
    if said is None:
        assert read_weights(str(tmp_path)).num_averaged == 0
        return
    with pytest.raises(UserError, match=said) as error:
        read_weights(str(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("graph", [np.array(b"graph"), np.float32(3), np.array([b"", b""])])
def test_a_damaged_graph_is_one_line(tmp_path, graph):
    write_bundle(tmp_path / "ckpt-3", {GRAPH: graph})
    with pytest.raises(UserError, match="object graph is damaged") as error:
        read_weights(str(tmp_path / "ckpt-3"))
    assert "\n" not in str(error.value)


def test_a_flipped_bit_in_an_object_checkpoint_is_found(golden, tmp_path):
    shutil.copytree(golden / LITE0, tmp_path / LITE0)
    data = next((tmp_path / LITE0).glob("*.data-*"))
    data.parent.chmod(0o755)
    data.chmod(0o644)
    content = bytearray(data.read_bytes())
    content[5_000_000] ^= 1
    data.write_bytes(content)
    with pytest.raises(UserError, match="not a readable checkpoint"):
        read_weights(str(tmp_path / LITE0))
