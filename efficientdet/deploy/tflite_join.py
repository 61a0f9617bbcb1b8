"""Two TFLite files as one: the outputs of the first are the inputs of the second, by name."""

from efficientdet.inference.exported import require_package


def join(first: bytes, second: bytes, output_names: tuple[str, ...]) -> bytes:
    """The joined file, with one signature of the first's inputs and the second's outputs.

    Args:
        first, second: of one graph and one signature each.
        output_names: the order in which those of the second's outputs that it has come out.
    """
    tools = require_package("ai_edge_litert.tools.flatbuffer_utils", "--format=tflite")
    model, added = map(tools.read_model_from_bytearray, (bytearray(first), bytearray(second)))
    (main,), (tail,) = model.subgraphs, added.subgraphs
    for tensor in tail.tensors:
        tensor.buffer += len(model.buffers)
    for operator in tail.operators:
        operator.opcodeIndex += len(model.operatorCodes)
    model.operatorCodes += added.operatorCodes
    model.buffers += added.buffers

    made = {item.name: item.tensorIndex for item in model.signatureDefs[0].outputs}
    numbers = {index: index + len(main.tensors) for index in range(len(tail.tensors))}
    for item in added.signatureDefs[0].inputs:
        numbers[item.tensorIndex] = made[item.name]
    numbers[-1] = -1  # an optional input that is not there
    main.tensors += tail.tensors
    for operator in tail.operators:
        operator.inputs = [numbers[int(index)] for index in operator.inputs]
        operator.outputs = [numbers[int(index)] for index in operator.outputs]
    main.operators += tail.operators
    outputs = {bytes(item.name).decode(): item for item in added.signatureDefs[0].outputs}
    ordered = [outputs[name] for name in output_names if name in outputs]
    for item in ordered:
        item.tensorIndex = numbers[item.tensorIndex]
    main.outputs = [item.tensorIndex for item in ordered]
    model.signatureDefs[0].outputs = ordered
    model.metadata = None  # of the converter, about its own buffers
    return bytes(tools.convert_object_to_bytearray(model))
