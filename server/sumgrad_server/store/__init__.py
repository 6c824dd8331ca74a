"""What outlives a request, and with a state directory the server too: a database of what is known, and files with the bytes of columns.

`state.py` puts the parts together; `directory.py` guards the directory, `schema.py` and `database.py` hold SQLite, `files.py` the files of columns,
and `room.py` names what there is no room for.
"""
