#!/usr/bin/python3
"""Stands in for systemd's manager object on the bus at DBUS_SESSION_BUS_ADDRESS.

A unit's name says what becomes of it: `…fails…` ends its job with `failed`, `…exists…` is
taken until somebody resets it. Units are real where FAKE_CGROUPS names a hierarchy: processes
are moved there. Each call is printed as a line of JSON.
"""
import json
import os
import signal
import sys

import dbus
import dbus.mainloop.glib
import dbus.service
from gi.repository import GLib

NAME = "org.freedesktop.systemd1"
MANAGER = NAME + ".Manager"
TOP = os.environ.get("FAKE_CGROUPS")


def say(call, **what):
    print(json.dumps({"call": call, **what}), flush=True)


def plain(value):
    if isinstance(value, dbus.Boolean):
        return bool(value)
    if isinstance(value, dbus.ByteArray):
        return list(value)
    if isinstance(value, (dbus.Array, dbus.Struct, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, str):
        return str(value)
    return int(value)


class UnitExists(dbus.DBusException):
    _dbus_error_name = NAME + ".UnitExists"


class NoSuchUnit(dbus.DBusException):
    _dbus_error_name = NAME + ".NoSuchUnit"


class Manager(dbus.service.Object):
    def __init__(self, bus):
        super().__init__(bus, "/org/freedesktop/systemd1")
        self.units = {}
        self.failed = {"test-exists.scope"}
        self.jobs = 0

    def job(self, unit, result):
        self.jobs += 1
        path = dbus.ObjectPath("/org/freedesktop/systemd1/job/%d" % self.jobs)
        # Every other job is over before its caller knows that it was accepted.
        number = self.jobs
        if number % 2:
            self.JobRemoved(number, path, unit, result)
        else:
            GLib.idle_add(lambda: self.JobRemoved(number, path, unit, result))
        return path

    @dbus.service.signal(MANAGER, signature="uoss")
    def JobRemoved(self, number, job, unit, result):
        pass

    @dbus.service.method(MANAGER, in_signature="", out_signature="")
    def Subscribe(self):
        say("Subscribe")

    @dbus.service.method(MANAGER, in_signature="ssa(sv)a(sa(sv))", out_signature="o")
    def StartTransientUnit(self, name, mode, properties, aux):
        properties = {str(key): plain(value) for key, value in properties}
        say("StartTransientUnit", unit=name, mode=mode, properties=properties)
        if name in self.failed or name in self.units:
            raise UnitExists("Unit %s already exists." % name)
        if "fails" in name:
            return self.job(name, "failed")
        path = None
        if TOP:
            path = TOP
            prefix = ""
            for part in properties["Slice"][: -len(".slice")].split("-"):
                prefix += part
                path += "/" + prefix + ".slice"
                prefix += "-"
            path += "/" + name
            os.makedirs(path, exist_ok=True)
            for pid in properties["PIDs"]:
                with open(path + "/cgroup.procs", "w") as procs:
                    procs.write(str(pid))
        self.units[name] = path
        return self.job(name, "done")

    @dbus.service.method(MANAGER, in_signature="ss", out_signature="o")
    def StopUnit(self, name, mode):
        say("StopUnit", unit=name, mode=mode)
        if name not in self.units:
            raise NoSuchUnit("Unit %s not loaded." % name)
        path = self.units.pop(name)
        if path:
            with open(path + "/cgroup.procs") as procs:
                for pid in procs.read().split():
                    os.kill(int(pid), signal.SIGKILL)
        return self.job(name, "done")

    @dbus.service.method(MANAGER, in_signature="s", out_signature="")
    def ResetFailedUnit(self, name):
        say("ResetFailedUnit", unit=name)
        if name not in self.failed:
            raise NoSuchUnit("Unit %s not loaded." % name)
        self.failed.discard(name)

    @dbus.service.method(MANAGER, in_signature="sba(sv)", out_signature="")
    def SetUnitProperties(self, name, runtime, properties):
        properties = {str(key): plain(value) for key, value in properties}
        say("SetUnitProperties", unit=name, runtime=bool(runtime), properties=properties)
        if name not in self.units:
            raise NoSuchUnit("Unit %s not loaded." % name)

    @dbus.service.method(dbus.PROPERTIES_IFACE, in_signature="ss", out_signature="v")
    def Get(self, interface, name):
        say("Get", name=name)
        return {"Version": "252.39-1~deb12u1", "ControlGroup": "/user.slice/x.service"}[name]


def main():
    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    bus = dbus.bus.BusConnection(os.environ["DBUS_SESSION_BUS_ADDRESS"])
    manager = Manager(bus)
    bus.request_name(NAME)
    say("ready")
    # Ends with whoever started it.
    GLib.io_add_watch(sys.stdin.fileno(), GLib.IO_HUP, lambda *_: os._exit(0))
    GLib.MainLoop().run()


main()
