import { expect, test } from 'vitest';
import { openBodyRoom } from '../../src/http/bodyroom.ts';

const megabyte = 1024 * 1024;
const github = { name: 'main github', peer: '203.0.113.9' };

test('one body may have what its share has, and not a byte more', () => {
  const place = openBodyRoom(8 * megabyte).enter(github);
  place.took(2 * megabyte);
  expect(() => place.took(1)).toThrow(/Too many long bodies/);
});

test('a short body has room however many others are there', () => {
  const room = openBodyRoom(megabyte);
  room.enter().took(megabyte);
  room.enter(github).took(64 * 1024);
  expect(() => room.enter().took(64 * 1024 + 1)).toThrow(/Too many long bodies/);
});

test.each([
  ['under one name', ['a', 'a'], ['1', '2'], 1],
  ['from one peer', ['a', 'b', 'c'], ['1', '1', '1'], 2],
  ['of this machine, where a proxy may be', ['a', 'b', 'c', 'd'], [], 3],
  ['of many names and peers', ['a', 'b', 'c', 'd'], ['1', '2', '3', '4'], 3],
])('of bodies %s so many have room', (_, names, peers: (string | undefined)[], most) => {
  const room = openBodyRoom(8 * megabyte);
  const taken = names.filter((name, n) => {
    const place = room.enter({ name, peer: peers[n] });
    try {
      place.took(2 * megabyte);
      return true;
    } catch {
      place.leave();
      return false;
    }
  });
  expect(taken).toHaveLength(most);
  room.enter().took((8 - 2 * most) * megabyte);
});

test('who has proved itself makes room for those who have not', () => {
  const room = openBodyRoom(8 * megabyte);
  for (let n = 0; n < 4; n++) {
    const place = room.enter(github);
    place.took(2 * megabyte);
    place.proved();
  }
  expect(() => room.enter().took(megabyte)).toThrow(/Too many/);
});

test('what has left is no longer there, proved or not', () => {
  const room = openBodyRoom(8 * megabyte);
  for (let n = 0; n < 10; n++) {
    const place = room.enter(github);
    place.took(2 * megabyte);
    if (n % 2 === 0) place.proved();
    place.leave();
    place.leave();
  }
  expect(() => room.enter().took(8 * megabyte)).not.toThrow();
});
