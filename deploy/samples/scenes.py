"""What the generated clip shows: four scenes with real motion, noise and detail, drawn straight in YUV.

Encoders are flattered by colour bars. These scenes are hard in the ways that footage is: textures that move
and zoom, thousands of small things going their own ways, text-like edges, cuts, and film grain over all of
it.

Every frame carries its number as a row of sixteen black or white blocks along the lower edge (most
significant bit left), and for the first tenth of each second a white square in the upper left corner, which
the sound's beep
accompanies: what comes out of a transcoder can be checked for order, completeness and synchrony.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Luma = NDArray[np.uint8]
Scene = Callable[[int], Luma]

FRAME_NUMBER_BITS = 16
FLASH_S = 0.1

_BLACK, _WHITE = 16, 235
_GRAIN_TILES = 8
_GRAIN_SIGMA = 3.0
_PARTICLES = 3000


class Picture:
    """Draws frames of one size. Deterministic: the same size and number give the same frame."""

    def __init__(self, width_px: int, height_px: int, frame_rate: int, scene_frames: int) -> None:
        self._width_px = width_px
        self._height_px = height_px
        self._frame_rate = frame_rate
        self._scene_frames = scene_frames
        self._rng = np.random.default_rng(20)
        self._grain = [self._grain_tile() for _ in range(_GRAIN_TILES)]
        self._scenes: tuple[Scene, ...] = (
            self._zooming_field(),
            self._scrolling_text(),
            self._particles(),
            self._rippling_weave(),
        )
        # Slow washes of colour, one for each scene: chroma at half the size, whole waves so that it can roll.
        y, x = np.mgrid[0 : height_px // 2, 0 : width_px // 2]
        across, down = 2 * np.pi * x / (width_px // 2), 2 * np.pi * y / (height_px // 2)
        self._washes = [
            (
                (128 + 36 * np.sin(across * (1 + n % 2) + n)).astype(np.uint8),
                (128 + 36 * np.cos(down + across + 2 * n)).astype(np.uint8),
            )
            for n in range(len(self._scenes))
        ]

    def frame(self, number: int) -> tuple[Luma, Luma, Luma]:
        """The planes Y, U and V of one frame, limited range."""
        scene = number // self._scene_frames % len(self._scenes)
        luma = self._scenes[scene](number).astype(np.int16)
        luma += self._grain[number * 5 % _GRAIN_TILES]
        picture = np.clip(luma, _BLACK, _WHITE).astype(np.uint8)
        self._mark(picture, number)
        u, v = self._washes[scene]
        shift = number * 2 % u.shape[1]
        return picture, np.roll(u, shift, axis=1), np.roll(v, -shift, axis=1)

    def _mark(self, picture: Luma, number: int) -> None:
        side = self._height_px // 9
        if number % self._frame_rate < FLASH_S * self._frame_rate:
            picture[:side, :side] = _WHITE
        else:
            picture[:side, :side] = _BLACK
        block = self._width_px // FRAME_NUMBER_BITS // 2
        for bit in range(FRAME_NUMBER_BITS):
            is_set = number >> (FRAME_NUMBER_BITS - 1 - bit) & 1
            picture[-block:, bit * block : (bit + 1) * block] = _WHITE if is_set else _BLACK

    def _grain_tile(self) -> NDArray[np.int16]:
        shape = (self._height_px, self._width_px)
        return (self._rng.standard_normal(shape, dtype=np.float32) * _GRAIN_SIGMA).astype(np.int16)

    def _zooming_field(self) -> Scene:
        """A landscape of noise in several octaves, flown over and into."""
        field = self._octaves(self._height_px * 2, self._width_px * 2)
        rows = np.arange(self._height_px)
        columns = np.arange(self._width_px)

        def draw(number: int) -> Luma:
            step = number % self._scene_frames
            zoom = 1.6 - 0.8 * step / self._scene_frames
            y = (rows * zoom + step * self._height_px / 900).astype(np.intp) % field.shape[0]
            x = (columns * zoom + step * self._width_px / 700).astype(np.intp) % field.shape[1]
            return np.asarray(field[y[:, None], x[None, :]])

        return draw

    def _scrolling_text(self) -> Scene:
        """Lines of made-up letters, scrolling up: hard edges at the scale of subtitles and screens."""
        scale = max(1, self._height_px // 270)
        glyphs = self._rng.random((64, 7, 5)) < 0.5
        glyph_rows, glyph_columns = self._height_px // (10 * scale) + 32, self._width_px // (6 * scale) + 1
        choice = self._rng.integers(0, 64, (glyph_rows, glyph_columns))
        blank = self._rng.random((glyph_rows, glyph_columns)) < 0.18
        page = np.full((glyph_rows * 10, glyph_columns * 6), 40, np.uint8)
        for row in range(glyph_rows):
            for column in range(glyph_columns):
                if not blank[row, column]:
                    cell = page[row * 10 + 1 : row * 10 + 8, column * 6 : column * 6 + 5]
                    cell[glyphs[choice[row, column]]] = 205
        page = page.repeat(scale, 0).repeat(scale, 1)[:, : self._width_px]

        def draw(number: int) -> Luma:
            top = number % self._scene_frames * max(1, self._height_px // 360)
            return np.asarray(page[top : top + self._height_px])

        return draw

    def _particles(self) -> Scene:
        """Thousands of sparks on their own courses over a slow gradient."""
        x, y = (self._rng.random(_PARTICLES) * side for side in (self._width_px, self._height_px))
        speed_x, speed_y = self._rng.normal(0, self._height_px / 180, (2, _PARTICLES))
        brightness = self._rng.integers(120, 235, _PARTICLES).astype(np.uint8)
        radius = max(1, self._height_px // 360)
        gradient = np.linspace(30, 110, self._height_px, dtype=np.float32)[:, None] + np.linspace(
            0, 40, self._width_px, dtype=np.float32
        )

        def draw(number: int) -> Luma:
            step = number % self._scene_frames
            picture: Luma = (gradient + 12 * np.sin(step / 20)).astype(np.uint8)
            at_x = (x + speed_x * step).astype(np.intp) % (self._width_px - radius)
            at_y = (y + speed_y * step + 0.02 * step * step).astype(np.intp) % (self._height_px - radius)
            for down in range(radius + 1):
                for right in range(radius + 1):
                    picture[(at_y + down) % self._height_px, (at_x + right) % self._width_px] = brightness
            return picture

        return draw

    def _rippling_weave(self) -> Scene:
        """A woven texture with waves running through it: motion that no single vector describes."""
        weave = self._octaves(self._height_px, self._width_px)
        weave = (weave // 2 + (np.indices(weave.shape).sum(0) // 6 % 2 * 60).astype(np.uint8) + 20).astype(np.uint8)
        rows = np.arange(self._height_px)
        columns = np.arange(self._width_px)

        def draw(number: int) -> Luma:
            step = number % self._scene_frames
            wave_y = (rows + 9 * np.sin(rows / 40 + step / 6) + 2 * step).astype(np.intp) % self._height_px
            wave_x = (columns + 14 * np.sin(columns / 90 + step / 9) - 3 * step).astype(np.intp) % self._width_px
            return np.asarray(weave[wave_y[:, None], wave_x[None, :]])

        return draw

    def _octaves(self, height_px: int, width_px: int) -> Luma:
        total: NDArray[np.float32] = np.zeros((height_px, width_px), np.float32)
        for cell_px, weight in ((128, 60.0), (48, 36.0), (16, 20.0), (6, 10.0), (2, 5.0)):
            coarse = self._rng.random((height_px // cell_px + 2, width_px // cell_px + 2), dtype=np.float32)
            total += weight * _stretched(coarse, height_px, width_px, cell_px)
        return total.clip(0, 200).astype(np.uint8) + np.uint8(20)


def _stretched(coarse: NDArray[np.float32], height_px: int, width_px: int, cell_px: int) -> NDArray[np.float32]:
    """Bilinear: first down the rows, then along them."""
    y = np.arange(height_px, dtype=np.float32) / cell_px
    x = np.arange(width_px, dtype=np.float32) / cell_px
    y0, x0 = y.astype(np.intp), x.astype(np.intp)
    fy, fx = (y - y0)[:, None], (x - x0)[None, :]
    rows = coarse[y0] * (1 - fy) + coarse[y0 + 1] * fy
    return np.asarray(rows[:, x0] * (1 - fx) + rows[:, x0 + 1] * fx, np.float32)
