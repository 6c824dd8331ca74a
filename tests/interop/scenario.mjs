// What tests/interop/test_node.py has this client do:
//
//     node scenario.mjs ADDRESS PROTOS STEP...
//
// runs the steps in turn and prints one line of JSON for each. Doubles are printed as the sixteen hexadecimal digits of their bits.

import { array, bytesOf, connect, GraphBuilder, named, ServiceError, sha256 } from "./sumgrad.mjs";

const [address, protos, ...steps] = process.argv.slice(2);
const service = connect(address, protos);

// Samples: x of shape (n, 3) and a label y of -1 or 1, from a small generator of random numbers, and where the model is.
const SAMPLES = 5000;
const random = ((state) => () => ((state = (state * 16807) % 2147483647) / 2147483647))(20);
const x = Float64Array.from({ length: 3 * SAMPLES }, () => 4 * random() - 2);
const y = Float64Array.from({ length: SAMPLES }, (_, i) => (x[3 * i] - x[3 * i + 1] + random() > 0.5 ? 1 : -1));
const parameters = [named("w", Float64Array.of(0.3, -0.7, 0.11), [3]), named("b", Float64Array.of(0.25), [])];

/** Logistic regression: loss softplus(-y (x · w + b)), penalty 0.001 |w|², and how many samples are on the right side. */
function logistic() {
  const g = new GraphBuilder(service);
  const [features, label] = [g.input("x", [3]), g.input("y")];
  const [w, b] = [g.parameter("w", [3]), g.parameter("b")];
  const score = g.node("ADD", [g.node("SUM", [g.node("MULTIPLY", [features, w])], { axes: 0 }), b]);
  const margin = g.node("MULTIPLY", [label, score]);
  const loss = g.node("SOFTPLUS", [g.node("NEGATIVE", [margin])]);
  const norm = g.node("SUM", [g.node("MULTIPLY", [w, w])], { axes: 0 });
  const penalty = g.node("MULTIPLY", [g.scalar(0.001), norm]);
  const right = g.node("CAST_FLOAT", [g.node("LESS", [g.scalar(0), margin])]);
  return g.bytes({ loss, penalty, "metric:right": right });
}

const graph = logistic();
const inputs = [named("x", x, [SAMPLES, 3]), named("y", y, [SAMPLES])];
const rows = {
  all: undefined,
  range: { range: { start: 1000, stop: 4097 } },
  indices: { indices: array(BigInt64Array.from({ length: 700 }, (_, i) => BigInt((i * 7919) % SAMPLES)), [700]) },
};

/** The bits of a double. */
const bits = (number) => {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(number);
  return bytes.toString("hex");
};

/** A gradient as the test reads it. The bytes of arrays are little-endian doubles. */
const shown = (answer) => {
  const listed = (arrays) => Object.fromEntries(arrays.map(({ name, array: { data } }) => [name, data.toString("hex")]));
  const { value, gradients, metrics, sample_count, evaluator } = answer;
  return { value: bits(value), gradients: listed(gradients), metrics: listed(metrics), count: Number(sample_count), evaluator };
};

/** What an error says. */
const said = (error) => {
  if (!(error instanceof ServiceError)) throw error;
  const { status, message, reason, domain, metadata, fields } = error;
  return { status, message, reason, domain, metadata, fields };
};

const refused = (call) => call.then(() => "not refused", said);

/** The messages of an upload: what the columns are, then their bytes in pieces, taking turns; then how long they are and what they hash to. */
function* uploaded(name, pieceBytes) {
  const columns = [bytesOf(x), bytesOf(y)];
  yield { start: { upload_id: `upload of ${name}`, name, columns: [{ name: "x", dtype: "DTYPE_F64", shape: [3] }, { name: "y", dtype: "DTYPE_F64" }] } };
  for (let offset = 0; offset < columns[0].length; offset += pieceBytes) {
    for (const [column, bytes] of columns.entries()) {
      const data = bytes.subarray(offset, offset + pieceBytes);
      if (data.length) yield { chunk: { column, offset, data } };
    }
  }
  yield { finish: { sample_count: SAMPLES, sha256: columns.map((bytes) => Buffer.from(sha256(bytes), "hex")) } };
}

/** The name of content, as the comment of Dataset.id spells it. */
const datasetId = () => {
  const column = (name, shape, bytes) => `${name}\tf64\t${shape}\t${sha256(bytes)}\n`;
  return sha256(`${SAMPLES}\n${column("x", "3", bytesOf(x))}${column("y", "", bytesOf(y))}`);
};

const STEPS = {
  /** What Python needs to compute the same. */
  async data() {
    return { x: bytesOf(x).toString("hex"), y: bytesOf(y).toString("hex"), samples: SAMPLES };
  },

  /** A graph, registered twice and read back; a gradient over samples that go with the request, in sum, in mean and for one parameter only. */
  async inline() {
    const id = await service.register(graph);
    const again = await service.call("RegisterGraph", { graph, request_id: "again" });
    const back = await service.call("GetGraph", { graph_id: id });
    const ask = (more) => service.call("Gradient", { graph_id: id, parameters, inputs, ...more }).then(shown);
    return {
      known: again.already_known,
      request_id: again.request_id,
      nodes: again.node_count,
      same: back.graph.equals(graph),
      sum: await ask({}),
      mean: await ask({ reduction: "REDUCTION_MEAN" }),
      wrt: await ask({ wrt: ["b"] }),
      reference: await ask({ evaluator: "EVALUATOR_REFERENCE" }),
    };
  },

  /** Outputs of each sample, streamed, joined. */
  async evaluate() {
    const g = new GraphBuilder(service);
    const score = g.node("SUM", [g.node("MULTIPLY", [g.input("x", [3]), g.parameter("w", [3])])], { axes: 0 });
    const id = await service.register(g.bytes({ score }));
    const parts = await service.collect("Evaluate", { graph_id: id, parameters: [parameters[0]], inputs: [inputs[0]] });
    return { score: Buffer.concat(parts.map(({ outputs }) => outputs[0].array.data)).toString("hex") };
  },

  /** Errors, with their details. */
  async errors() {
    const id = await service.register(graph);
    const g = new GraphBuilder(service);
    const [a, b] = [g.input("a", [2]), g.input("b", [3])];
    const bad = g.bytes({ loss: g.node("ADD", [a, b]) });
    return {
      unknown: await refused(service.call("Gradient", { graph_id: "0".repeat(64), parameters, inputs })),
      missing: await refused(service.call("Gradient", { graph_id: id, parameters, inputs: inputs.slice(0, 1), request_id: "r1" })),
      graph: await refused(service.call("RegisterGraph", { graph: bad })),
      bytes: await refused(service.call("RegisterGraph", { graph: Buffer.from("no graph") })),
    };
  },

  /** Samples that stay on the server; gradients over all of them, a range and a list of rows; listed, described and deleted. */
  async dataset() {
    const id = await service.register(graph);
    const first = await service.upload("UploadDataset", uploaded("train", 4096));
    const second = await service.upload("UploadDataset", uploaded("train", 1 << 20));
    const answers = {};
    for (const [name, chosen] of Object.entries(rows)) {
      answers[name] = shown(await service.call("Gradient", { graph_id: id, parameters, dataset: "train", rows: chosen }));
    }
    const { datasets } = await service.call("ListDatasets", {});
    const { dataset } = await service.call("DescribeDataset", { dataset: first.dataset.id });
    const damaged = [...uploaded("damaged", 4096)];
    damaged.at(-1).finish.sha256[0] = Buffer.alloc(32);
    const damage = await refused(service.upload("UploadDataset", damaged));
    await service.call("DeleteDataset", { dataset: "train" });
    return {
      id: first.dataset.id,
      expected_id: datasetId(),
      known: [first.already_known, second.already_known],
      names: datasets.map(({ name }) => name),
      bytes: Number(dataset.byte_count),
      samples: Number(dataset.sample_count),
      columns: dataset.columns.map(({ name, dtype, shape, sha256: sum }) => [name, dtype, shape.map(Number), sum.toString("hex")]),
      answers,
      damage,
      deleted: await refused(service.call("DescribeDataset", { dataset: "train" })),
    };
  },

  /** Twenty gradients on one stream without waiting, the seventh of which is wrong. */
  async stream() {
    const id = await service.register(graph);
    const requests = Array.from({ length: 20 }, (_, k) => ({
      request_id: `stream ${k}`,
      graph_id: id,
      parameters: [parameters[0], named("b", Float64Array.of(k === 6 ? NaN : k / 8), k === 6 ? [1] : [])],
      inputs,
    }));
    const answers = await service.pipeline("GradientStream", requests);
    return answers.map((answer) => (answer instanceof ServiceError ? said(answer) : { request_id: answer.request_id, ...shown(answer) }));
  },
};

for (const step of steps) console.log(JSON.stringify(await STEPS[step]()));
service.close();
