"""The stored audio of a dataset, read by random access from its ArrayRecord files."""

import functools
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2

# No reading ahead and no threads: what is read is one record anywhere.
READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
READER_BUFFER_BYTES = 32_768
# To open a file takes as long as to read a record of it, and systems allow a process about a thousand; 2 million
# clips have four thousand.
OPEN_FILES = 256


class Records:
    """The records of a split, or of a sum of splits. Threads may share it; processes open their own."""

    def __init__(self, folder: Path, split: str) -> None:
        """Reads TFDS's list of shards; opens none."""
        shards = tfds.builder_from_directory(str(folder)).info.splits[split].file_instructions
        self._files = [shard.filename for shard in shards]
        self._ends = np.cumsum([shard.examples_in_shard for shard in shards])
        self._open = functools.lru_cache(maxsize=OPEN_FILES)(_open)

    def audio(self, number: int, samples: int) -> np.ndarray:
        """Samples of a record: (time,) int16, read-only.

        Args:
          number: of the record.
          samples: how many there must be.

        Raises:
          ValueError: it cannot be read, or is another; the message names the file and the record in it.
        """
        shard = int(np.searchsorted(self._ends, number, side="right"))
        record = number - (int(self._ends[shard - 1]) if shard else 0)
        try:
            # TFDS's own decoding takes twice as long, for it also copies.
            example = tf_example_pb2.Example.FromString(self._open(self._files[shard]).read([record])[0])
            pcm = np.frombuffer(example.features.feature["audio"].bytes_list.value[0], np.int16)
            if len(pcm) != samples:
                raise ValueError(f"{len(pcm)} samples, where the index has {samples}")
            return pcm
        except (RuntimeError, ValueError, IndexError, OSError, DecodeError) as error:
            raise ValueError(f"{self._files[shard]}: record {record} cannot be read ({error})") from error


def _open(path: str) -> ArrayRecordReader:
    return ArrayRecordReader(path, READER_OPTIONS, file_reader_buffer_size=READER_BUFFER_BYTES)
