// A network between the browser and the server, on loopback, that can be cut.
import net from "node:net";

export class Network {
  constructor(host, port) {
    this.target = { host, port };
    this.links = new Set();
    this.isDown = false;
    this.waiting = [];
  }

  // Returns the port, on 127.0.0.1, to which a browser connects.
  async open() {
    this.server = net.createServer((client) => this.carry(client));
    await new Promise((opened) => this.server.listen(0, "127.0.0.1", opened));
    this.port = this.server.address().port;
    return this.port;
  }

  carry(client) {
    if (this.isDown) {
      client.destroy();
      for (const told of this.waiting.splice(0)) told();
      return;
    }
    const server = net.connect(this.target);
    const link = [client, server];
    this.links.add(link);
    for (const [from, to] of [
      [client, server],
      [server, client],
    ]) {
      from.pipe(to);
      from.on("error", () => to.destroy());
      from.on("close", () => {
        to.destroy();
        this.links.delete(link);
      });
    }
  }

  // All connections are gone, and new ones fail.
  cut() {
    this.isDown = true;
    for (const [client, server] of this.links) {
      client.destroy();
      server.destroy();
    }
  }

  // Waits until somebody tried in vain: a client has noticed that the network is gone.
  refused(msMax) {
    return new Promise((told, failed) => {
      this.waiting.push(told);
      setTimeout(() => failed(new Error("nobody noticed that the network is gone")), msMax).unref();
    });
  }

  restore() {
    this.isDown = false;
  }

  close() {
    this.cut();
    this.server.close();
  }
}
