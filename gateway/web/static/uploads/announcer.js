// Says to screen readers what happened, a few words at a time: what comes within a moment is said together.

const GATHER_MS = 1200;

export class Announcer {
  #element;
  #texts = [];
  #timer = 0;

  constructor(element) {
    this.#element = element;
  }

  say(text) {
    if (this.#texts.at(-1) !== text) this.#texts.push(text);
    if (!this.#timer) this.#timer = setTimeout(() => this.#speak(), GATHER_MS);
  }

  #speak() {
    this.#timer = 0;
    const texts = this.#texts.splice(0);
    this.#element.textContent = texts.length <= 3 ? texts.join(" ") : `${texts.slice(0, 2).join(" ")} And ${texts.length - 2} more.`;
  }
}
