"""The AudioSet classes of the programs of General MIDI, counted from 0; 128 stands for drums."""

import bisect

from uss_jax import audioset

CLASSES = (  # from this program of General MIDI on: AudioSet names between " ; "; empty where there is no class
    (0, "Piano"), (4, "Electric piano ; Piano"), (6, "Harpsichord"), (7, ""), (8, "Mallet percussion"),
    (9, "Glockenspiel ; Mallet percussion"), (10, ""), (11, "Vibraphone ; Mallet percussion"),
    (12, "Marimba, xylophone ; Mallet percussion"), (14, "Tubular bells"), (15, "Zither"), (16, "Organ"),
    (21, "Accordion"), (22, "Harmonica"), (23, "Accordion"), (24, "Acoustic guitar ; Guitar"),
    (26, "Electric guitar ; Guitar"), (32, "Double bass"), (33, "Bass guitar"), (38, "Synthesizer"),
    (40, "Violin, fiddle ; Bowed string instrument"), (41, "Bowed string instrument"),
    (42, "Cello ; Bowed string instrument"), (43, "Double bass ; Bowed string instrument"),
    (44, "Bowed string instrument"), (46, "Harp"), (47, "Timpani ; Drum"),
    (48, "String section ; Bowed string instrument"), (50, "Synthesizer"), (52, "Choir"), (54, "Synthetic singing"),
    (55, "Orchestra"), (56, "Trumpet ; Brass instrument"), (57, "Trombone ; Brass instrument"),
    (58, "Brass instrument"), (60, "French horn ; Brass instrument"), (61, "Brass instrument"), (62, "Synthesizer"),
    (64, "Saxophone ; Wind instrument, woodwind instrument"), (68, "Wind instrument, woodwind instrument"),
    (71, "Clarinet ; Wind instrument, woodwind instrument"), (72, "Flute ; Wind instrument, woodwind instrument"),
    (78, ""), (79, "Flute ; Wind instrument, woodwind instrument"), (80, "Synthesizer"), (104, "Sitar"),
    (105, "Banjo"), (106, ""), (107, "Zither"), (108, ""), (109, "Bagpipes"), (110, "Violin, fiddle"), (111, ""),
    (128, "Drum kit ; Drum ; Percussion"),
)  # fmt: skip


def mids(program: int) -> str:
    """Machine ids of a program, with commas between them; empty where no class is its own."""
    names = CLASSES[bisect.bisect_right([first for first, _ in CLASSES], program) - 1][1]
    return ",".join(audioset.find_class(name).mid for name in names.split(" ; ") if name)
