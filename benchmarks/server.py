"""A trivial service: listens some 20 ms after it was started, answers every request with 200.

server.py PORT      run with python -S; `GET /slow` takes a second
"""

import os
import socket
import sys
import time

listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(128)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
while True:
    connection, _ = listener.accept()
    try:
        if b"/slow" in connection.recv(65536).split(b"\r\n")[0]:
            time.sleep(1)
        connection.sendall(ANSWER)
    except OSError:
        os.write(2, b"a client went away\n")
    connection.close()
