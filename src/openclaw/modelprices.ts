import { type ModelPrice, modelPriceSchema } from '../prices.ts';
import { isObject, type Json } from './configfile.ts';

/** `models.providers.<provider>.models[].cost` of openclaw.json; what is no price is left out. */
export function pricesOf(config: Json): ModelPrice[] {
  const models = isObject(config['models']) ? config['models'] : {};
  const providers = isObject(models['providers']) ? models['providers'] : {};
  const prices = Object.entries(providers).flatMap(([provider, said]) => {
    const listed: unknown = isObject(said) ? said['models'] : undefined;
    return (Array.isArray(listed) ? listed : []).flatMap((model: unknown) => {
      if (!isObject(model) || !isObject(model['cost'])) return [];
      const { input, output, cacheRead = 0, cacheWrite = 0 } = model['cost'];
      const price = { provider, model: model['id'], input, output, cacheRead, cacheWrite };
      const read = modelPriceSchema.safeParse(price);
      return read.success ? [read.data] : [];
    });
  });
  return prices.sort((one, other) => (nameOf(one) < nameOf(other) ? -1 : 1)).slice(0, 2000);
}

function nameOf({ provider, model }: ModelPrice): string {
  return `${provider}\n${model}`;
}
