// What any endpoint in Node can be at best: Fastify that reads a webhook whole, believes it and forgets it.
import { randomUUID } from 'node:crypto';
import Fastify from 'fastify';

const app = Fastify();
app.removeAllContentTypeParsers();
app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
app.post('/api/webhook/:agentId', (_request, reply) =>
  reply.code(202).send({ status: 'accepted', id: `main.${randomUUID()}` }),
);
process.once('SIGTERM', () => void app.close());
process.stdout.write(`${await app.listen({ host: '127.0.0.1', port: 0 })}\n`);
