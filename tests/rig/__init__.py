"""What tests of the whole data plane stand on: raw clients, a worker with its book, ways to write bytes, and the fixtures that join them.

A folder's conftest takes them with `from tests.rig.fixtures import *`.
"""
