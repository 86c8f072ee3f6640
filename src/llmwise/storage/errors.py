"""The one error of this layer, apart from the rest so that the writer need not import SQLAlchemy."""


class StorageUnavailable(Exception):
    """The database can't be used now. The message names its URL (without password), what is wrong and the remedy.

    Nothing was written by the call that raised it. Whether waiting helps (locked, disk full) or not (not a database,
    schema too new) is for the reader of the message; the writer keeps its records and tries again in either case.
    """

    def __init__(self, url: str, problem: str, remedy: str) -> None:
        super().__init__(f"storage {url}: {problem}; {remedy}")
        self.url = url
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[type["StorageUnavailable"], tuple[str, str, str]]:
        return (type(self), (self.url, self.problem, self.remedy))
