// A client of the gradient service, in the hundred and fifty lines that one needs: it is made of the .proto files and their comments, and of
// gRPC. Read it beside docs/protocol.md.
//
//     const service = connect("127.0.0.1:50051", "proto");
//     const graph = new GraphBuilder(service) ...       // an expression
//     const id = await service.register(graph.bytes({ loss }));
//     const answer = await service.call("Gradient", { graph_id: id, parameters: [...], inputs: [...] });

import { createHash } from "node:crypto";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";
import protobuf from "protobufjs";

const GIB = 2 ** 30;
const DETAILS = fileURLToPath(new URL("details.proto", import.meta.url));

// Field names as the .proto files have them; 64-bit integers as strings, since a number holds 53 bits only.
const LOADING = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };

/** SHA-256 as 64 lowercase hexadecimal digits. */
export const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** An array on the wire: little-endian raw bytes (which is the order of typed arrays on all machines that run Node), with type and shape. */
export function array(data, shape) {
  const dtypes = { Float64Array: "DTYPE_F64", Float32Array: "DTYPE_F32", BigInt64Array: "DTYPE_I64", Int32Array: "DTYPE_I32" };
  return { dtype: dtypes[data.constructor.name], shape, data: bytesOf(data) };
}

/** An array that goes by a name: a parameter or an input. */
export const named = (name, data, shape) => ({ name, array: array(data, shape) });

/** The bytes of a typed array. */
export const bytesOf = (data) => Buffer.from(data.buffer, data.byteOffset, data.byteLength);

/** An error of the service, with what google.rpc says of it: reason, metadata, fields, retry delay in seconds. */
export class ServiceError extends Error {
  constructor(code, message, details) {
    super(message);
    Object.assign(this, { status: grpc.status[code], ...details });
  }
}

/** Opens a connection; `protos` is the folder that holds sumgrad_proto/. */
export function connect(address, protos) {
  const definition = loader.loadSync("sumgrad_proto/v1/service.proto", { ...LOADING, includeDirs: [protos] });
  const { GradientService } = grpc.loadPackageDefinition(definition).sumgrad.v1;
  const limits = { "grpc.max_send_message_length": GIB, "grpc.max_receive_message_length": GIB };
  return new Service(new GradientService(address, grpc.credentials.createInsecure(), limits), messages(protos));
}

/** The message types themselves: a graph has to be serialised here, since its bytes are what names it, and error details have to be read. */
function messages(protos) {
  const root = new protobuf.Root();
  root.resolvePath = (_, target) => (target.startsWith("sumgrad_proto/") ? `${protos}/${target}` : target);
  return root.loadSync(["sumgrad_proto/v1/graph.proto", DETAILS], { keepCase: true });
}

export class Service {
  constructor(client, types) {
    this.client = client;
    this.types = types;
  }

  /** A call with one request and one response. */
  call(method, request) {
    return new Promise((resolve, reject) => {
      this.client[method](request, (error, response) => (error ? reject(this.#read(error)) : resolve(response)));
    });
  }

  /** A call whose responses are streamed: all of them. */
  async collect(method, request) {
    const responses = [];
    try {
      for await (const response of this.client[method](request)) responses.push(response);
    } catch (error) {
      throw this.#read(error);
    }
    return responses;
  }

  /** A call whose requests are streamed. `requests` may be a generator; it is asked for the next one when there is room on the way. */
  upload(method, requests) {
    return new Promise((resolve, reject) => {
      const call = this.client[method]((error, response) => (error ? reject(this.#read(error)) : resolve(response)));
      const rest = requests[Symbol.iterator]();
      const send = () => {
        for (let next = rest.next(); !next.done; next = rest.next()) {
          if (!call.write(next.value)) return void call.once("drain", send);
        }
        call.end();
      };
      send();
    });
  }

  /** Many requests on one stream, sent without waiting; the answers come in their order. An answer that is an error is given as one. */
  async pipeline(method, requests) {
    const call = this.client[method]();
    for (const request of requests) call.write(request);
    call.end();
    const answers = [];
    for await (const { answer, gradient, error } of call) {
      answers.push(answer === "error" ? new ServiceError(error.code, error.message, this.#details(error.details)) : gradient);
    }
    return answers;
  }

  /** Registers a serialised graph; its id. The server must call it what we call it. */
  async register(bytes) {
    const id = sha256(bytes);
    const { graph_id } = await this.call("RegisterGraph", { graph: bytes });
    if (graph_id !== id) throw new Error(`the server calls the graph ${graph_id}, but its SHA-256 is ${id}`);
    return id;
  }

  /** Ends the connection. */
  close() {
    this.client.close();
  }

  /** From gRPC's error to ours. */
  #read(error) {
    const [bytes] = error.metadata?.get("grpc-status-details-bin") ?? [];
    return new ServiceError(error.code, error.details, bytes ? this.#details(bytes) : {});
  }

  #details(bytes) {
    const read = (name, data) => this.types.lookupType(`google.rpc.${name}`).decode(data);
    const found = {};
    for (const { type_url, value } of read("Status", bytes).details) {
      const name = type_url.split("google.rpc.")[1];
      const detail = read(name, value);
      if (name === "ErrorInfo") Object.assign(found, { reason: detail.reason, domain: detail.domain, metadata: detail.metadata });
      if (name === "BadRequest") found.fields = detail.field_violations.map(({ field }) => field);
      if (name === "RetryInfo") found.retry = Number(detail.retry_delay.seconds) + detail.retry_delay.nanos / 1e9;
    }
    return found;
  }
}

/** Builds a Graph: a structure of arrays, in which every operand is the index of an earlier node. Each method gives the index of its node. */
export class GraphBuilder {
  constructor(service) {
    this.type = service.types.lookupType("sumgrad.v1.Graph");
    this.opcode = service.types.lookupEnum("sumgrad.v1.Opcode").values;
    this.dtype = service.types.lookupEnum("sumgrad.v1.DType").values;
    this.graph = { opcodes: [], operand_counts: [], operands: [], attributes: [], inputs: [], parameters: [], scalars: [], outputs: [] };
  }

  /** An op, by the name of its opcode without OPCODE_; attributes are numbers or lists of them. */
  node(op, operands = [], attributes = {}) {
    const index = this.graph.opcodes.length;
    this.graph.opcodes.push(this.opcode[`OPCODE_${op}`]);
    this.graph.operand_counts.push(operands.length);
    this.graph.operands.push(...operands);
    for (const [name, values] of Object.entries(attributes)) this.graph.attributes.push({ node: index, name, values: [values].flat() });
    return index;
  }

  /** Data of one sample: the k-th INPUT node takes inputs[k]. */
  input(name, shape = [], dtype = "DTYPE_F64") {
    this.graph.inputs.push({ name, shape, dtype: this.dtype[dtype] });
    return this.node("INPUT");
  }

  /** What all samples share, and what is differentiated with respect to. */
  parameter(name, shape = []) {
    this.graph.parameters.push({ name, shape, dtype: this.dtype.DTYPE_F64 });
    return this.node("PARAMETER");
  }

  /** A number. */
  scalar(value) {
    this.graph.scalars.push(value);
    return this.node("SCALAR");
  }

  /** The serialised graph with these outputs by name. Keep the bytes: their SHA-256 is the graph's name. */
  bytes(outputs) {
    const listed = Object.entries(outputs).map(([name, node]) => ({ name, node }));
    return Buffer.from(this.type.encode({ ...this.graph, outputs: listed }).finish());
  }
}
