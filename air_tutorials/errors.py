"""Every exception of the package. Each message names the value, the limit and the mend.

::

    AirTutorialsError
    ├── ConfigError                 (ValueError)        a setting is out of range or of the wrong kind
    ├── ClusterError
    │   ├── PreflightError                              the request cannot fit; Ray would wait for ever
    │   ├── RunNameInUseError                           a run of that name exists and would be resumed
    │   └── PortInUseError          (OSError)           another program listens at that port
    ├── TuningError                                     an experiment cannot go on, or gave no usable result
    ├── DataError
    │   ├── DataLockTimeoutError    (TimeoutError)      another process held the lock for too long
    │   ├── DataNotWritableError    (OSError)           no permission, a full disk, a read-only disk
    │   ├── DownloadError           (ConnectionError)   the server failed or could not be reached
    │   ├── DamagedDataError                            files are there, but not what they should be
    │   └── ColumnError             (KeyError)          a dataset lacks a column, or its shape is wrong
    └── CheckpointError
        ├── MissingCheckpointError  (FileNotFoundError) nothing was saved there
        ├── DamagedCheckpointError                      the file is truncated or no checkpoint at all
        ├── UnsafeCheckpointError                       the file would run code when it is loaded
        └── CheckpointMismatchError                     its weights do not fit the model

An exception that has a builtin in brackets inherits from it as well, so that ``except TimeoutError`` works.
"""


class AirTutorialsError(Exception):
    """Base of every error that this package raises on purpose."""

    # KeyError shows repr(message); ours are sentences.
    __str__ = Exception.__str__


class ConfigError(AirTutorialsError, ValueError):
    """A setting is out of range or of the wrong kind."""


class ClusterError(AirTutorialsError):
    """Base of what is wrong with the cluster or with what is asked of it."""


class PreflightError(ClusterError):
    """The request can never be met by this cluster: Ray would wait for ever."""


class RunNameInUseError(ClusterError):
    """A run of that name exists in the storage path, and Ray would silently resume it."""


class PortInUseError(ClusterError, OSError):
    """Another program listens at the port at which something should be served."""


class TuningError(AirTutorialsError):
    """An experiment could not go on, or none of its trials gave a result that could be used."""


class DataError(AirTutorialsError):
    """Base of what is wrong with a dataset or its directory."""


class DataLockTimeoutError(DataError, TimeoutError):
    """Another process held the data lock for longer than the caller would wait."""


class DataNotWritableError(DataError, OSError):
    """A directory cannot be written: no permission, a read-only disk, a full disk."""


class DownloadError(DataError, ConnectionError):
    """The server could not be reached, or answered with an error."""


class DamagedDataError(DataError):
    """Files are there, but not what they should be: truncated, altered, or of another format."""


class ColumnError(DataError, KeyError):
    """A dataset lacks a column that is needed, or the column has the wrong shape or dtype."""


class CheckpointError(AirTutorialsError):
    """Base of what is wrong with a checkpoint."""


class MissingCheckpointError(CheckpointError, FileNotFoundError):
    """No checkpoint was saved at that place."""


class DamagedCheckpointError(CheckpointError):
    """The file is truncated, empty, or no checkpoint at all."""


class UnsafeCheckpointError(CheckpointError):
    """The file holds more than weights: loading it would run code that somebody put there."""


class CheckpointMismatchError(CheckpointError):
    """The weights do not fit the model: keys are missing or unexpected, or shapes differ."""
